"""Clients that fail, forget what they confirmed, or are cut off: nothing forgotten is used, and nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from federation import OPEN_GATE, Federation, initial_arrays, make_federation, same_bytes
from flwr.app import Context, Message

from fed_unlearn import protocol
from fed_unlearn.gate import Gate
from fed_unlearn.ledger import Ledger
from fed_unlearn.lifecycle import Status
from fed_unlearn.requests import ForgetRequest


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return make_federation(tmp_path)


def fail_at(federation: Federation, message_type: str, client: int, times: int = 10**9) -> None:
    """Make one client raise on one type of message."""
    handler = federation.app._registered_funcs[message_type]
    left = times

    def failing(message: Message, context: Context) -> Message:
        nonlocal left
        if context.node_config["partition-id"] == client and left > 0:
            left -= 1
            raise ValueError("sample 17 has label 3")
        return handler(message, context)

    federation.app._registered_funcs[message_type] = failing


def stored(federation: Federation, client: int) -> dict[str, dict[str, object]]:
    body = json.loads((federation.folder / "clients" / str(client) / "state.json").read_text())
    requests: dict[str, dict[str, object]] = body["requests"]
    return requests


def test_a_holder_that_fails_to_unlearn_fails_the_request(federation: Federation) -> None:
    strategy = federation.strategy(gate=OPEN_GATE)
    before = strategy.start(federation.grid, initial_arrays(), num_rounds=2).arrays
    fail_at(federation, protocol.UNLEARN, 0)
    strategy.submit(ForgetRequest.for_class(3))
    result = strategy.start(federation.grid, num_rounds=0)
    [outcome] = result.requests
    assert outcome.status is Status.FAILED
    assert outcome.attempts == Gate().max_attempts
    assert same_bytes(result.arrays, before)
    assert stored(federation, 1)["r1"]["sample_ids"], "quarantine outlasts the failure"


@pytest.mark.parametrize(("times", "attempts"), [(1, 1), (2, 1), (3, 2)])
def test_a_holder_that_fails_for_a_while_is_asked_again(federation: Federation, times: int, attempts: int) -> None:
    strategy = federation.strategy(gate=OPEN_GATE)
    strategy.start(federation.grid, initial_arrays(), num_rounds=2)
    fail_at(federation, protocol.UNLEARN, 0, times=times)
    fail_at(federation, protocol.CONFIRM, 1, times=1)
    strategy.submit(ForgetRequest.for_class(3))
    [outcome] = strategy.start(federation.grid, num_rounds=0).requests
    assert outcome.status is Status.COMMITTED
    assert outcome.attempts == attempts
    assert all(stored(federation, client)["r1"]["tombstoned"] for client in range(4))


def test_no_commit_without_every_holders_tombstones(federation: Federation) -> None:
    strategy = federation.strategy(gate=OPEN_GATE)
    before = strategy.start(federation.grid, initial_arrays(), num_rounds=2).arrays
    fail_at(federation, protocol.CONFIRM, 2)
    strategy.submit(ForgetRequest.for_class(3))
    result = strategy.start(federation.grid, num_rounds=0)
    assert [outcome.status for outcome in result.requests] == [Status.FAILED]
    assert "client" in (result.requests[0].reason or "")
    assert same_bytes(result.arrays, before)


def test_a_client_without_its_tombstones_is_left_out_and_named(
    federation: Federation, caplog: pytest.LogCaptureFixture
) -> None:
    strategy = federation.strategy(gate=OPEN_GATE)
    strategy.start(federation.grid, initial_arrays(), num_rounds=2)
    strategy.submit(ForgetRequest.for_class(3))
    strategy.start(federation.grid, num_rounds=0)
    forgotten = set(stored(federation, 0)["r1"]["sample_ids"])  # type: ignore[call-overload]
    (federation.folder / "clients" / "0" / "state.json").unlink()
    federation.task.trained_ids.clear()
    with caplog.at_level("WARNING", logger="fed_unlearn"):
        strategy.start(federation.grid, num_rounds=1)
    assert any("client 0 is left out" in record.getMessage() for record in caplog.records)
    seen = frozenset().union(*federation.task.trained_ids)
    assert seen and not seen & forgotten


def test_a_commit_that_was_cut_short_goes_on(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = federation.strategy(gate=OPEN_GATE)
    strategy.start(federation.grid, initial_arrays(), num_rounds=2)
    strategy.submit(ForgetRequest.for_class(3))

    def power_cut(*_: object, **__: object) -> None:
        raise SystemExit("power cut")

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Ledger, "commit", power_cut)
        strategy.start(federation.grid, num_rounds=0)
    assert strategy.ledger.entry("r1").status is Status.COMMITTING
    digest = strategy.ledger.committing_model("r1")
    strategy.ledger.close()
    again = federation.strategy(gate=OPEN_GATE)
    [outcome] = again.start(federation.grid, initial_arrays(), num_rounds=0).requests
    assert outcome.status is Status.COMMITTED
    assert again.ledger.served_model() == digest
    assert again.ledger.forgotten_classes() == {3}


def test_errors_of_clients_travel_without_their_text(federation: Federation, caplog: pytest.LogCaptureFixture) -> None:
    strategy = federation.strategy(gate=OPEN_GATE)
    strategy.start(federation.grid, initial_arrays(), num_rounds=1)
    federation.task.train = None  # type: ignore[assignment, method-assign]
    with caplog.at_level("INFO"):
        strategy.start(federation.grid, num_rounds=1)
    said = [record.getMessage() for record in caplog.records if record.name in ("flwr", "fed_unlearn.strategies")]
    assert any("TypeError at the client; its own log has the details" in line for line in said)
    assert not any("NoneType" in line for line in said)
