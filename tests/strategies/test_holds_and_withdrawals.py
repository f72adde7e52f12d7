"""Requests that ask for much wait for approval; what is withdrawn is used again, and by whom."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from fault_trials import PLAN, Trial, trained
from shared_requests import AT_1, AT_2, asked, attempts, committed, statuses

from fed_unlearn import protocol
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.ledger import Ledger
from fed_unlearn.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import Holds
from fed_unlearn.strategies.schedule import Batch, Scheduler

NEVER = Thresholds(max_forget_accuracy=0.0, max_retain_drop=0.0, max_total_retain_drop=0.0)
HOPELESS = Gate(class_thresholds=NEVER, sample_thresholds=NEVER, client_thresholds=NEVER, max_repair_rounds=0)
HARDLY = {"boundary-shrink": {"epochs": 1, "learning_rate": 1e-6}, "instance-wise": {"max_steps": 1}}


def held_back(folder: Path, **holds: float) -> Trial:
    return trained(folder, plan=replace(PLAN, holds=Holds(**holds)))


@contextmanager
def second_ledger(trial: Trial) -> Iterator[Ledger]:
    """The ledger as another process has it open."""
    ledger = Ledger(trial.strategy.ledger.path)
    try:
        yield ledger
    finally:
        ledger.close()


# ---------------------------------------------------------------------- what is held


def test_a_class_is_held_and_a_few_samples_of_it_are_not(tmp_path: Path) -> None:
    trial = held_back(tmp_path, of_class=0.5)
    of_class = [len(trial.ids_of_class(client, 3)) for client in range(4)]
    some = ForgetRequest.for_samples(1, count=1, of_class=3, id="one")
    many = ForgetRequest.for_samples(1, count=sum(of_class) // 2 + 1, of_class=3, id="too-many")
    assert committed(trial.serve(ForgetRequest.for_class(3, id="all"), some, many)) == ["one"]
    assert statuses(trial) == {"all": "held", "one": "committed", "too-many": "held"}
    assert trial.reason("all") == "it asks for 100% of a class and more than 50% needs approval; approve or withdraw it"


def test_a_client_is_held_and_a_share_of_it_below_the_bound_is_not(tmp_path: Path) -> None:
    trial = held_back(tmp_path, of_client=0.25)
    quarter = len(trial.ids_of(1)) // 4
    requests = [ForgetRequest.for_samples(1, count=quarter + extra, id=f"plus-{extra}") for extra in (0, 1)]
    assert committed(trial.serve(*requests, ForgetRequest.for_client(2, id="client"))) == ["plus-0"]
    assert statuses(trial) == {"plus-0": "committed", "plus-1": "held", "client": "held"}
    assert "of a client" in trial.reason("client")


def test_no_flood_of_small_requests_gets_past_the_bound_on_all_data(tmp_path: Path) -> None:
    """All at once, and over several calls and processes: what was forgotten before counts."""
    trial = held_back(tmp_path, data=0.05)
    allowed = int(0.05 * sum(len(trial.ids_of(client)) for client in range(4)))
    first = [ForgetRequest.for_samples(index % 4, count=2, id=f"a{index}") for index in range(allowed // 2 - 1)]
    flood = [ForgetRequest.for_samples(index % 4, count=1, id=f"b{index}") for index in range(allowed)]
    assert len(committed(trial.serve(*first))) == len(first)
    served = committed(trial.serve(*flood))
    left = allowed - 2 * len(first)
    assert served == [f"b{index}" for index in range(left)]
    assert [trial.status(f"b{index}") for index in range(left, allowed)] == [Status.HELD] * (allowed - left)
    trial.restart()
    trial.serve(ForgetRequest.for_samples(3, count=1, id="one-more"))
    assert trial.status("one-more") is Status.HELD
    assert "with what was forgotten before" in trial.reason("one-more")
    excluded = sum(len(item["sample_ids"]) for client in range(4) for item in trial.stored(client).values())  # type: ignore[arg-type]
    assert excluded == allowed


def test_what_two_requests_share_counts_once(tmp_path: Path) -> None:
    """Samples of a class, and then the class: together no more than the class."""
    trial = trained(tmp_path)
    total = sum(len(trial.ids_of(client)) for client in range(4))
    of_class = sum(len(trial.ids_of_class(client, 3)) for client in range(4))
    trial.strategy.plan = replace(PLAN, holds=Holds(data=(of_class + 8.5) / total))
    one_client = len(trial.ids_of(1))
    few = ForgetRequest.for_samples(0, count=8, id="few")
    assert committed(trial.serve(few, ForgetRequest.for_class(3, id="class"))) == ["few", "class"]
    assert one_client > 8
    trial.serve(ForgetRequest.for_client(1, id="client"))
    assert trial.status("client") is Status.HELD


def test_a_held_request_holds_up_no_other(tmp_path: Path) -> None:
    trial = held_back(tmp_path, of_class=0.5)
    urgent = ForgetRequest.for_class(3, id="held", priority=9)
    trial.strategy.submit(urgent)
    trial.strategy.submit(AT_1)
    asked(trial)
    result = trial.strategy.start(trial.grid, num_rounds=3, timeout=0.2)
    assert committed(result) == ["a"]
    assert statuses(trial) == {"held": "held", "a": "committed"}
    sent = asked(trial)
    assert (sent[protocol.TRAIN], sent[protocol.AUDIT]) == (3 * 4, 3 * 4), "no round is audited for what is held"
    assert attempts(trial)["held"] == 0


# ---------------------------------------------------------------------- approval


def test_what_another_process_approves_is_served_by_the_next_call(tmp_path: Path) -> None:
    trial = held_back(tmp_path, of_class=0.5, data=0.01)
    trial.serve(ForgetRequest.for_class(3))
    with second_ledger(trial) as ledger:
        assert ledger.entry("r1").status is Status.HELD
        ledger.approve("r1")
    assert committed(trial.serve()) == ["r1"]


def test_what_is_approved_during_training_is_served_between_its_rounds(tmp_path: Path) -> None:
    trial = held_back(tmp_path, of_class=0.5)
    trial.serve(ForgetRequest.for_class(3))
    heard: list[int] = []

    def approve_in_the_second_round(client: int, reply: object) -> None:
        heard.append(client)
        if len(heard) == 5:
            with second_ledger(trial) as ledger:
                ledger.approve("r1")

    trial.trained_on()
    trial.grid.watch(protocol.TRAIN, approve_in_the_second_round)
    result = trial.strategy.start(trial.grid, num_rounds=4, timeout=0.2)
    assert committed(result) == ["r1"]
    names = [str(event.facts["after"]) for event in trial.strategy.ledger.events() if event.name == "model-accepted"]
    assert names[-3:] == ["train:2", "r1", "train:2"]
    assert result.relapse[-1].after == "train:2" and set(result.relapse[-1].forget_accuracy) == {"r1"}


def test_what_was_approved_before_it_was_held_is_not_held(tmp_path: Path) -> None:
    trial = held_back(tmp_path, of_class=0.5)
    trial.strategy.submit(ForgetRequest.for_class(3))
    with second_ledger(trial) as ledger:
        ledger.approve("r1")
    assert committed(trial.serve()) == ["r1"]


def test_approval_in_the_moment_of_holding_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = held_back(tmp_path, of_class=0.5)
    look = Scheduler.place

    def place(scheduler: Scheduler, entry: object, connected: object) -> object:
        placed = look(scheduler, entry, connected)  # type: ignore[arg-type]
        with second_ledger(trial) as ledger:
            ledger.approve("r1")
        return placed

    with monkeypatch.context() as patch:
        patch.setattr(Scheduler, "place", place)
        trial.serve(ForgetRequest.for_class(3))
    assert trial.status() is not Status.HELD
    trial.serve()
    assert trial.status() is Status.COMMITTED


# ---------------------------------------------------------------------- withdrawal


def test_what_is_withdrawn_before_it_was_tried_was_never_taken_out_of_training(tmp_path: Path) -> None:
    trial = held_back(tmp_path, of_class=0.5)
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
