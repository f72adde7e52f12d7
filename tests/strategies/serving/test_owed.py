"""Holders that were away when a class was forgotten: who they are, what they get first, and what is looked at again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fault_trials import PLAN, trained
from shared_requests import committed

from fed_unlearn import protocol
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.serving.relapse import relapse_rows

CLASS = ForgetRequest.for_class(3, id="r1")
FORGETTING = Thresholds(max_forget_accuracy=0.05, max_retain_drop=None, max_total_retain_drop=None)


def test_who_comes_back_in_the_middle_of_the_request_is_in_none_of_its_rounds(tmp_path: Path) -> None:
    """It has not heard of the request: it would train the class back in, with the samples that are to be forgotten."""
    trial = trained(tmp_path, plan=replace(PLAN, repair_rounds=2))
    trial.grid.gone.add(2)
    trial.grid.watch(protocol.UNLEARN, lambda client, reply: trial.grid.heal())
    trial.trained_on()
    trial.grid.sent.clear()
    result = trial.serve(CLASS)
    assert committed(result) == ["r1"]
    assert (2, protocol.REPAIR) not in trial.grid.sent
    assert not trial.trained_on() & trial.ids_of(2)
    names = [event.name for event in trial.strategy.ledger.events() if event.request_id == "r1"]
    assert names[-2:] == ["owed", "owed-settled"] and trial.owed() == ()  # it is there: settled before the call ends
    assert [row.after for row in result.relapse] == ["r1", "tombstones:2"]
    result = trial.train(1)
    seen = trial.trained_on()
    assert trial.ids_of(2) - trial.ids_of_class(2, 3) <= seen and not seen & trial.ids_of_class(2, 3)
    assert [row.after for row in result.relapse] == ["train:2"]


def test_all_requests_are_audited_with_the_samples_of_who_is_back(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    trial.serve(ForgetRequest.for_class(8, id="earlier"))
    trial.grid.gone.add(2)
    [outcome] = trial.serve(CLASS).requests
    assert (outcome.status, trial.owed()) == (Status.COMMITTED, ("2",))
    trial.grid.heal()
    audited: dict[int, int] = {}
    trial.grid.watch(
        protocol.AUDIT,
        lambda client, reply: audited.update({client: protocol.read_audit(reply).targets["r1"].hits.total}),
    )
    [row] = trial.serve().relapse
    assert row.after == "tombstones:2"
    assert set(row.forget_accuracy) == {"r1", "earlier"}
    ledger = trial.strategy.ledger
    said = [event.facts["after"] for event in ledger.events() if event.name == "relapse-audit"]
    assert said[-1] == f"tombstones:{ledger.client_reference('2')}"  # events name no client
    assert relapse_rows(ledger)[-1] == row
    assert audited == {client: len(trial.ids_of_class(client, 3)) for client in range(4)}
    names = [event.name for event in trial.strategy.ledger.events() if event.request_id == "r1"]
    assert names[-2:] == ["owed", "owed-settled"]


def test_what_the_others_could_not_forget_for_it_is_tried_again_with_it(tmp_path: Path) -> None:
    """The class is nearly all at client 2, which is away: the others' few samples are not enough.

    With output rows set nobody would call anything by the class, so no client names any.
    """
    forgets = {"boundary-shrink": {"epochs": 10, "learning_rate": 0.02}}
    trial = trained(tmp_path, plan=replace(PLAN, parameters=forgets, reopen_relapsed=True))
    trial.train(6)
    for client in range(4):
        trial.grid.spoil(lambda reply: reply.content.pop("output-layer"), client, protocol.IDENTIFY)
    trial.grid.gone.add(2)
    trial.strategy.gate = Gate(class_thresholds=replace(FORGETTING, max_forget_accuracy=1.0), max_training_drop=1.0)
    trial.strategy.plan = replace(
        trial.strategy.plan, parameters={"boundary-shrink": {"epochs": 1, "learning_rate": 1e-4}}, repair_rounds=0
    )
    assert committed(trial.serve(CLASS)) == ["r1"]
    trial.strategy.gate = Gate(class_thresholds=FORGETTING, max_training_drop=1.0)
    trial.strategy.plan = replace(PLAN, parameters=forgets, reopen_relapsed=True)
    trial.grid.heal()
    result = trial.serve()
    assert committed(result) == ["r1"]
    assert [(row.after, row.relapsed) for row in result.relapse] == [("tombstones:2", ("r1",)), ("r1", ())]
    assert trial.strategy.ledger.entry("r1").attempt == 2
    assert (2, protocol.UNLEARN) in trial.grid.sent


@pytest.mark.parametrize("kind", ["raises", "deaf"])
def test_who_does_not_confirm_is_left_out_and_still_owes(tmp_path: Path, kind: str) -> None:
    trial = trained(tmp_path)
    trial.grid.gone.add(2)
    trial.serve(CLASS)
    trial.grid.heal()
    trial.grid.fault(kind, 2, protocol.CONFIRM)
    trial.trained_on()
    result = trial.train(2)
    assert trial.owed() == ("2",)
    assert not trial.trained_on() & trial.ids_of(2)
    assert [row.after for row in result.relapse] == ["train:2"]
    trial.grid.heal()
    trial.train(1)
    seen = trial.trained_on()
    assert trial.owed() == () and seen & trial.ids_of(2) and not seen & trial.ids_of_class(2, 3)


def test_debts_outlast_the_process_and_are_settled_for_all_requests_at_once(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    trial.grid.gone.add(2)
    trial.serve(CLASS, ForgetRequest.for_class(8, id="eight"))
    assert (trial.owed("r1"), trial.owed("eight")) == (("2",), ("2",))
    trial.grid.heal()
    trial.restart()
    trial.grid.sent.clear()
    trial.trained_on()
    trial.train(1)
    assert trial.grid.count(2, protocol.CONFIRM) == 1
    assert (trial.owed("r1"), trial.owed("eight")) == ((), ())
    assert not trial.trained_on() & (trial.ids_of_class(2, 3) | trial.ids_of_class(2, 8))
    assert trial.strategy.ledger.verify().problem is None
