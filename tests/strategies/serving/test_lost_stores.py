"""Where every client is left out for good, training ends at once, with the clients' reasons."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from fault_trials import CLASS, trained
from federation import initial_arrays

from fed_unlearn.strategies.clients.messages.exchange import ClientsFailedError

LONG = 60.0


def test_lost_stores_of_all_clients_end_the_wait(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    trial.serve(CLASS)
    shutil.rmtree(tmp_path / "clients")
    trial.restart()
    started = time.monotonic()
    with pytest.raises(ClientsFailedError, match="tombstones that it has confirmed"):
        trial.strategy.start(trial.grid, initial_arrays(), num_rounds=1, timeout=LONG)
    assert time.monotonic() - started < LONG / 2
    assert trial.strategy.state.load_training() is not None


def test_a_client_that_is_not_connected_is_waited_for(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    trial.serve(CLASS)
    for client in range(3):
        shutil.rmtree(tmp_path / "clients" / str(client))
    trial.restart()
    trial.do("gone", 3, "")
    result = trial.strategy.start(trial.grid, initial_arrays(), num_rounds=1, timeout=1.0)
    assert not result.train_metrics_clientapp
    assert trial.strategy.state.load_training() is not None
