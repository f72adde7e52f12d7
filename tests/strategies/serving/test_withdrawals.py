"""What is withdrawn is used again, wherever it had been taken out of training; a client that was to leave stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fault_trials import PLAN, Trial, trained
from shared_requests import AT_1, AT_2, asked, attempts, committed, second_ledger, statuses

from fed_unlearn import protocol
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import Holds
from fed_unlearn.strategies.serving.schedule import Batch, Scheduler

NEVER = Thresholds(max_forget_accuracy=0.0, max_retain_drop=0.0, max_total_retain_drop=0.0)
HOPELESS = Gate(class_thresholds=NEVER, sample_thresholds=NEVER, client_thresholds=NEVER, max_repair_rounds=0)
HARDLY = {"boundary-shrink": {"epochs": 1, "learning_rate": 1e-6}, "instance-wise": {"max_steps": 1}}


def test_what_is_withdrawn_before_it_was_tried_was_never_taken_out_of_training(tmp_path: Path) -> None:
    trial = trained(tmp_path, plan=replace(PLAN, holds=Holds(of_class=0.5)))
    trial.serve(ForgetRequest.for_class(3))
    with second_ledger(trial) as ledger:
        ledger.withdraw("r1")
    asked(trial)
    trial.trained_on()
    assert trial.train(1).requests == []
    assert trial.status() is Status.WITHDRAWN
    assert asked(trial)[protocol.DISCARD] == 0, "nobody had heard of it"
    assert trial.ids_of_class(0, 3) <= trial.trained_on()
    assert not trial.strategy.ledger.release_due()


def test_samples_of_a_withdrawn_request_are_trained_on_again(tmp_path: Path) -> None:
    """Its holder has taken them out of training and could not say so: it waits, and is withdrawn."""
    trial = trained(tmp_path)
    trial.grid.fault("silent", 2, protocol.UNLEARN)
    trial.serve(AT_2)
    quarantined = set(trial.stored(2)["c"]["sample_ids"])  # type: ignore[call-overload]
    trial.trained_on()
    trial.train(1)
    assert len(quarantined) == 2 and not trial.trained_on() & quarantined
    with second_ledger(trial) as ledger:
        ledger.withdraw("c")
    trial.train(1)
    assert quarantined <= trial.trained_on()
    assert "c" not in trial.stored(2)
    events = [event.name for event in trial.strategy.ledger.events() if event.request_id == "c"]
    assert events[-2:] == ["withdrawn", "released"]


def test_a_holder_that_is_away_is_told_of_the_withdrawal_when_it_is_back(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    trial.grid.fault("silent", 2, protocol.UNLEARN)
    trial.serve(AT_2)
    quarantined = set(trial.stored(2)["c"]["sample_ids"])  # type: ignore[call-overload]
    trial.grid.gone.add(2)
    with second_ledger(trial) as ledger:
        ledger.withdraw("c")
    asked(trial)
    trial.train(3)
    assert asked(trial)[protocol.AUDIT] == 3, "nothing can be done between the rounds, so nothing is looked at"
    assert [entry.id for entry in trial.strategy.ledger.release_due()] == ["c"]
    trial.trained_on()
    trial.grid.heal()
    trial.train(1)
    assert quarantined <= trial.trained_on()
    assert not trial.strategy.ledger.release_due()


def test_a_class_is_released_at_every_client_the_absent_ones_too(tmp_path: Path) -> None:
    """Withdrawn between two attempts, while one of those that know of it is away."""
    trial = trained(tmp_path, plan=replace(PLAN, parameters=HARDLY, repair_rounds=0), gate=HOPELESS)
    trial.train(4)
    trial.grid.watch(protocol.DISCARD, withdraw_once(trial))
    trial.serve(ForgetRequest.for_class(3))
    assert (trial.status(), attempts(trial)["r1"]) == (Status.WITHDRAWN, 1)
    trial.grid.gone.add(2)
    trial.restart()
    trial.trained_on()
    trial.train(1)
    seen = trial.trained_on()
    assert [trial.ids_of_class(client, 3) <= seen for client in range(4)] == [True, True, False, True]
    assert trial.strategy.ledger.release_due(), "client 2 does not know yet"
    trial.grid.heal()
    trial.restart()
    trial.train(1)
    assert trial.ids_of_class(2, 3) <= trial.trained_on()
    assert not trial.strategy.ledger.release_due()


def withdraw_once(trial: Trial, name: str = "r1"):  # type: ignore[no-untyped-def]
    """Withdraw a request as soon as a client answers: it has been rolled back then."""

    def told(client: int, reply: object) -> None:
        with second_ledger(trial) as ledger:
            if ledger.entry(name).status is Status.ROLLED_BACK:
                ledger.withdraw(name)

    return told


@pytest.mark.parametrize("at_once", [True, False])
def test_a_client_whose_request_is_withdrawn_takes_part_again(tmp_path: Path, at_once: bool) -> None:
    trial = trained(tmp_path, gate=HOPELESS)
    trial.grid.watch(protocol.DISCARD, withdraw_once(trial))
    trial.strategy.submit(ForgetRequest.for_client(2))
    trial.trained_on()
    if at_once:
        trial.strategy.start(trial.grid, num_rounds=2, timeout=0.2)
    else:
        trial.serve()
        assert trial.status() is Status.WITHDRAWN
        trial.restart()
        trial.train(2)
    assert (trial.status(), attempts(trial)["r1"]) == (Status.WITHDRAWN, 1)
    assert trial.ids_of(2) <= trial.trained_on()
    assert "r1" not in trial.stored(2)
    assert trial.strategy.ledger.departed() == frozenset()


def test_a_client_that_stays_after_all_has_its_share_of_what_was_forgotten_meanwhile(tmp_path: Path) -> None:
    """While it was leaving, a class went without it; it gets its tombstones before it trains again."""
    trial = trained(tmp_path, plan=replace(PLAN, escalation={"client": ("fedosd",)}))
    trial.strategy.gate = replace(trial.strategy.gate, client_thresholds=NEVER, max_repair_rounds=0, max_attempts=1)

    def a_class_comes_first(client: int, reply: object) -> None:
        with second_ledger(trial) as ledger:
            if ledger.entry("client").status is Status.ROLLED_BACK and not ledger.committed():
                ledger.receive(ForgetRequest.for_class(3, id="class", priority=1))

    def and_then_it_stays(client: int, reply: object) -> None:
        with second_ledger(trial) as ledger:
            if ledger.entry("client").status is Status.ROLLED_BACK:
                ledger.withdraw("client")

    trial.grid.watch(protocol.DISCARD, a_class_comes_first)
    trial.grid.watch(protocol.CONFIRM, and_then_it_stays)
    trial.serve(ForgetRequest.for_client(2, id="client"))
    assert statuses(trial) == {"client": "withdrawn", "class": "committed"}
    assert trial.owed("class") == ("2",)
    trial.trained_on()
    trial.train(2)
    seen = trial.trained_on()
    assert trial.ids_of(2) - trial.ids_of_class(2, 3) <= seen
    assert not seen & trial.ids_of_class(2, 3)
    assert trial.owed("class") == ()


def test_withdrawal_in_the_moment_of_serving_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = trained(tmp_path)
    choose = Scheduler.batch

    def batch(scheduler: Scheduler, ready: list) -> Batch:  # type: ignore[type-arg]
        chosen = choose(scheduler, ready)
        with second_ledger(trial) as ledger:
            if ledger.entry("a").status is Status.RECEIVED:
                ledger.withdraw("a")
        return chosen

    monkeypatch.setattr(Scheduler, "batch", batch)
    assert committed(trial.serve(AT_1, AT_2)) == ["c"]
    assert statuses(trial) == {"a": "withdrawn", "c": "committed"}
    assert trial.grid.count(1, protocol.UNLEARN) == 0 and trial.stored(1) == {}
