"""Secure aggregation hides what unlearning needs to see, and is refused by name wherever it shows."""

from pathlib import Path

import pytest
from federation import make_federation
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.client.mod import secagg_mod, secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.server.workflow import SecAggPlusWorkflow

from fed_unlearn import protocol
from fed_unlearn.client import install
from fed_unlearn.errors import FedUnlearnError, InvalidParameterError
from fed_unlearn.strategies import ContinualUnlearning
from fed_unlearn.strategies.clients.messages.runtime import with_ledger


@pytest.mark.parametrize("mod", [secagg_mod, secaggplus_mod])
def test_an_app_with_its_mods_is_refused(tmp_path: Path, mod: object) -> None:
    app = ClientApp(mods=[mod])  # type: ignore[list-item]
    with pytest.raises(FedUnlearnError, match=r"SecAgg\+ hide"):
        install(app, make_federation(tmp_path).task)
    assert not app._registered_funcs


def test_its_workflow_and_its_messages_are_refused(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    with pytest.raises(InvalidParameterError, match=r"SecAggPlusWorkflow was given.*SecAgg\+ hide"):
        ContinualUnlearning(SecAggPlusWorkflow(3, 2), ledger=tmp_path / "ledger.db")  # type: ignore[arg-type]
    message = Message(RecordDict({protocol.SECURE_AGGREGATION_KEY: ConfigRecord({"stage": "setup"})}), 1, "train")
    with pytest.raises(FedUnlearnError, match=r"SecAgg\+ hide"):
        with_ledger([message], "")
    [reply] = federation.grid.send_and_receive([message])
    assert reply.has_error() and "SecAgg+ hide" in str(reply.error.reason)
