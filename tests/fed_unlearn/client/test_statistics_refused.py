"""Sums over samples do not leave a client whose app clips or noises what leaves it."""

from __future__ import annotations

from pathlib import Path

import pytest
from federation import DigitsTask, initial_arrays
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import LocalDpMod

from fed_unlearn import protocol
from fed_unlearn.client import install
from fed_unlearn.methods.parts.ridge import FEATURE_STEP
from fed_unlearn.simulations.inprocess import InProcessGrid, set_task_identity


@pytest.mark.parametrize("is_private", [True, False])
def test_sums_are_refused_where_a_mod_noises_models(tmp_path: Path, is_private: bool) -> None:
    from flwr.app import Message

    mods = [LocalDpMod(clipping_norm=5.0, sensitivity=1e-4, epsilon=10.0, delta=1e-5)] if is_private else []
    app = ClientApp(mods=mods)
    install(app, DigitsTask())
    set_task_identity()
    grid = InProcessGrid(app, 1, node_configs=[{"client-dir": str(tmp_path)}])
    content = protocol.content(protocol.StatisticsInstruction(step=FEATURE_STEP), initial_arrays())
    [node] = grid.get_node_ids()
    [reply] = grid.send_and_receive([Message(content, node, protocol.STATISTICS)])
    refusal = protocol.refusal_of(reply)
    if is_private:
        assert refusal is not None and "the app has the mod LocalDpMod" in refusal.reason
    else:
        assert refusal is None
        assert protocol.read_statistics(reply, step=FEATURE_STEP, most=128).count == 128
