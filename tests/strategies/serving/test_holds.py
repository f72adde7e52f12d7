"""Requests that ask for much of a class, a client or all data wait for a person's approval, and hold up no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fault_trials import PLAN, Trial, trained
from shared_requests import AT_1, asked, attempts, committed, second_ledger, statuses

from fed_unlearn import protocol
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import Holds
from fed_unlearn.strategies.serving.schedule import Scheduler


def held_back(folder: Path, **holds: float) -> Trial:
    return trained(folder, plan=replace(PLAN, holds=Holds(**holds)))


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
