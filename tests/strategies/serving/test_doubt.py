"""One lying client of four: no verdict rests on its figures alone, and it is named."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from federation import FAST_PLAN, Federation, all_digits, initial_arrays, same_bytes, small_model
from flwr.app import Context, Message
from hostile import Honest, Lie, Metrics, accuracy, claims, hostile_federation, on_audits, with_metrics

from fed_unlearn import protocol
from fed_unlearn.arrays import pack
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import ContinualUnlearning, Gate, ServerValidation

LIAR = 2


def trained(folder: Path) -> tuple[Federation, ContinualUnlearning]:
    """Six honest rounds."""
    federation = hostile_federation(folder, {})
    strategy = federation.strategy(plan=FAST_PLAN)
    strategy.start(federation.grid, initial_arrays=initial_arrays(), num_rounds=6)
    return federation, strategy


def lying(federation: Federation, lie: Lie) -> Federation:
    return hostile_federation(federation.folder, {LIAR: lie}, task=federation.task)


def when_requests_are_judged(message: Message, context: Context, honest: Honest) -> Message:
    """Every answer on retained data is wrong in audits of candidates, and true elsewhere."""
    reply = honest()
    if message.metadata.message_type != protocol.AUDIT:
        return reply
    return with_metrics(reply, claims(False)) if protocol.AuditInstruction.from_message(message).targets else reply


def nothing_forgotten(metrics: Metrics) -> Metrics:
    totals = {name.removeprefix("target/total/"): value for name, value in metrics.items() if "target/total/" in name}
    return {**metrics, **{f"target/correct/{name}": value for name, value in totals.items()}}


@pytest.mark.parametrize("lie", [when_requests_are_judged, on_audits(nothing_forgotten)], ids=["lost", "not forgotten"])
def test_a_veto_of_one_client_holds_the_request_and_names_it(tmp_path: Path, lie: Lie) -> None:
    """What serves stays as it was; once approved, the request is judged by the three others."""
    federation, strategy = trained(tmp_path)
    before = strategy.served.arrays
    grid = lying(federation, lie).grid
    strategy.submit(ForgetRequest.for_class(3))
    [held] = strategy.start(grid, num_rounds=0).requests
    [entry] = strategy.ledger.entries()
    assert (held.status, held.reason) == (Status.HELD, entry.reason)
    assert entry.status is Status.HELD
    assert entry.reason is not None
    assert entry.reason.startswith("client 2 counts ")
    assert "the others' figures of the same classes predict" in entry.reason
    assert same_bytes(pack(before), pack(strategy.served.arrays))
    assert not any("client 2" in str(event.facts) for event in strategy.ledger.events())
    strategy.ledger.approve("r1")
    [outcome] = strategy.start(grid, num_rounds=0).requests
    assert outcome.status is Status.COMMITTED
    assert accuracy(strategy.served.arrays, only=[3]) <= 0.05
    assert accuracy(strategy.served.arrays, without=[3]) > accuracy(before, without=[3]) - 0.03


def test_a_held_request_survives_a_restart_and_can_be_withdrawn(tmp_path: Path) -> None:
    federation, strategy = trained(tmp_path)
    grid = lying(federation, when_requests_are_judged).grid
    strategy.submit(ForgetRequest.for_class(3))
    strategy.start(grid, num_rounds=0)
    strategy.ledger.close()
    again = federation.strategy(plan=FAST_PLAN)
    again.start(grid, num_rounds=0)
    assert again.ledger.entry("r1").status is Status.HELD
    again.ledger.withdraw("r1")
    again.start(federation.grid, num_rounds=1)
    assert again.ledger.entry("r1").status is Status.WITHDRAWN
    assert accuracy(again.served.arrays, only=[3]) > 0.5


def test_a_veto_of_one_client_does_not_lose_a_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The others' figures decide; the client is named, and its name is in no event."""
    federation, strategy = trained(tmp_path)
    before = strategy.served.arrays
    with caplog.at_level(logging.WARNING, logger="fed_unlearn.strategies"):
        strategy.start(lying(federation, on_audits(claims(False))).grid, num_rounds=1)
    assert not same_bytes(pack(before), pack(strategy.served.arrays))
    assert "is judged without client 2: client 2 counts" in caplog.text
    [event] = [event for event in strategy.ledger.events() if event.name == "figures-doubted"]
    assert dict(event.facts) == {"experience": "train:2"}


def test_a_relapse_that_one_client_alone_sees_is_not_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    federation, strategy = trained(tmp_path)
    strategy.submit(ForgetRequest.for_class(3))
    strategy.start(federation.grid, num_rounds=0)
    with caplog.at_level(logging.WARNING, logger="fed_unlearn.strategies"):
        result = strategy.start(lying(federation, on_audits(nothing_forgotten)).grid, num_rounds=1)
    assert result.relapse[-1].relapsed == ()
    assert "request r1 is not taken as relapsed: client 2 counts" in caplog.text


def test_an_outcome_says_how_many_witnesses_there_are(tmp_path: Path) -> None:
    federation, strategy = trained(tmp_path)
    strategy.submit(ForgetRequest.for_class(3))
    strategy.submit(ForgetRequest.for_samples("1", count=2, goal="indistinguishable"))
    outcomes = strategy.start(federation.grid, num_rounds=0).requests
    assert [outcome.witnesses for outcome in outcomes] == [4, 1]


def test_with_samples_of_its_own_the_server_asks_nobody_whether_the_model_is_good(tmp_path: Path) -> None:
    """The client that would veto is not believed, and nothing has to be held."""
    federation, _ = trained(tmp_path)
    gate = Gate(validation=ServerValidation(all_digits().train.subset(torch.arange(640, 900)), small_model()))
    strategy = federation.strategy(plan=FAST_PLAN, gate=gate)
    strategy.submit(ForgetRequest.for_class(3))
    [outcome] = strategy.start(lying(federation, when_requests_are_judged).grid, num_rounds=0).requests
    assert outcome.status is Status.COMMITTED
    strategy.ledger.close()
    again = federation.strategy(plan=FAST_PLAN, gate=gate)
    again.start(federation.grid, num_rounds=0)
    assert again.served.audit is not None
    assert again.served.audit.server == gate.validation.count(again.served.arrays)  # type: ignore[union-attr]
