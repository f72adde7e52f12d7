"""Faults of clients in audits and identification; :mod:`test_faults` has the table of what they lead to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fault_trials import (
    CLASS,
    NO_ANSWER,
    PLAN,
    SAMPLES,
    SCOPES,
    Trial,
    few_digits,
    served_with,
    trained,
    trained_with,
)
from faulty_grid import Change, FaultyGrid, every_array, metric, without
from federation import initial_arrays, same_bytes
from flwr.app import ConfigRecord, Message

from fed_unlearn import protocol
from fed_unlearn.arrays import unpack
from fed_unlearn.audits.membership import BIN_COUNT
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.simulations.inprocess import InProcessGrid

# ---------------------------------------------------------------------- evaluate.audit


MALFORMED: dict[str, Change] = {
    "too few classes": metric("retain/correct", [1, 2]),
    "more right than there are": metric("validation/correct", [10**6] * 10),
    "below zero": metric("test/total", [-1] * 10),
    "no counts": metric("validation/total", float("nan")),
    "another histogram": metric("target/member_histogram/r1", [1, 2, 3]),
    "a histogram below zero": metric("target/outsider_histogram/r1", [-1] * BIN_COUNT),
    "no metrics": without("metrics"),
}
NO_AUDIT = ["raises", *NO_ANSWER, *MALFORMED]


def spoil_audits(trial: Trial, kind: str, client: int) -> None:
    if kind in MALFORMED:
        trial.grid.spoil(MALFORMED[kind], client, protocol.AUDIT)
    else:
        trial.do(kind, client, protocol.AUDIT)


@pytest.mark.parametrize("kind", NO_AUDIT)
def test_who_does_not_audit_is_left_out_and_the_others_judge(tmp_path: Path, kind: str) -> None:
    """Figures are those that the others count; by hand: of the three others' test samples."""
    trial = trained(tmp_path)
    spoil_audits(trial, kind, 2)
    result = trial.serve(CLASS)
    [outcome], [expected] = result.requests, served_with("deaf", 2, protocol.AUDIT, "class").requests
    assert outcome.status is Status.COMMITTED
    assert (outcome.unlearned, outcome.after) == (expected.unlearned, expected.after)
    assert outcome.after is not None
    by_hand = accuracy_at(unpack(result.arrays), (0, 1, 3), lambda label: label != 3)
    assert outcome.after.test_retain_accuracy == pytest.approx(by_hand)


def accuracy_at(model: dict[str, np.ndarray], clients: tuple[int, ...], counts: Callable[[int], bool]) -> float:
    right = total = 0
    for client in clients:
        test = few_digits(client).test
        images, labels = test.batch()
        hidden = np.maximum(images.flatten(1).numpy() @ model["1.weight"].T + model["1.bias"], 0)
        answers = (hidden @ model["3.weight"].T + model["3.bias"]).argmax(1)
        chosen = np.array([counts(label) for label in labels.tolist()])
        right += int((answers == labels.numpy())[chosen].sum())
        total += int(chosen.sum())
    return right / total


@pytest.mark.parametrize("kind", ["raises", *MALFORMED])
def test_a_holder_that_keeps_auditing_wrongly_fails_its_sample_request(tmp_path: Path, kind: str) -> None:
    trial = trained(tmp_path)
    before = trial.train(0).arrays
    spoil_audits(trial, kind, 2)
    result = trial.serve(SAMPLES)
    assert [outcome.status for outcome in result.requests] == [Status.FAILED]
    assert "counts are malformed" in trial.reason() or "OSError" in trial.reason()
    assert same_bytes(result.arrays, before)


@pytest.mark.parametrize("kind", NO_ANSWER)
def test_a_sample_request_waits_for_the_audit_of_its_holder(tmp_path: Path, kind: str) -> None:
    trial = trained(tmp_path)
    trial.do(kind, 2, protocol.AUDIT)
    trial.serve(SAMPLES, ForgetRequest.for_samples(1, count=2))
    assert (trial.status("r1"), trial.status("r2")) == (Status.WAITING, Status.COMMITTED)
    trial.grid.heal()
    [outcome] = trial.serve().requests
    assert (outcome.request.id, outcome.status) == ("r1", Status.COMMITTED)


@pytest.mark.parametrize("scope", ["class", "sample"])
@pytest.mark.parametrize("kind", ["deaf", "silent"])
def test_a_request_waits_where_nobody_audits(tmp_path: Path, scope: str, kind: str) -> None:
    trial = trained(tmp_path)
    before = trial.train(0).arrays
    for client in range(4):
        trial.do(kind, client, protocol.AUDIT)
    result = trial.serve(SCOPES[scope])
    assert (trial.status(), result.requests) == (Status.WAITING, [])
    assert same_bytes(result.arrays, before)
    trial.grid.heal()
    [outcome] = trial.serve().requests
    assert outcome.status is Status.COMMITTED


@pytest.mark.parametrize("scope", ["class", "sample"])
def test_an_audit_of_an_earlier_candidate_is_not_used(scope: str) -> None:
    """What client 2 counted of the served model comes when the candidate is audited: the same question, another model."""
    late, silent = (served_with(kind, 2, protocol.AUDIT, scope, times=1).requests[0] for kind in ("late", "silent"))
    assert (late.before, late.unlearned, late.after) == (silent.before, silent.unlearned, silent.after)


def test_an_audit_that_comes_twice_counts_once() -> None:
    twice, once = (served_with(kind, 2, protocol.AUDIT, "class").requests[0] for kind in ("twice", "none"))
    assert (twice.before, twice.after) == (once.before, once.after)


def test_a_model_is_never_accepted_for_want_of_anything_to_compare_it_with(tmp_path: Path) -> None:
    """Client 0 alone audited the served model, and does not answer any more: it is audited anew by the others."""
    strict = Thresholds(max_forget_accuracy=None, max_retain_drop=0.05, max_total_retain_drop=None)
    trial = Trial(tmp_path, gate=Gate(class_thresholds=strict, max_repair_rounds=0, max_attempts=1))
    for client in (1, 2, 3):
        trial.do("deaf", client, protocol.AUDIT)
    trial.train(6)
    trial.grid.heal()
    trial.do("deaf", 0, protocol.AUDIT)
    for client in range(4):
        trial.grid.spoil(every_array(np.zeros_like), client, protocol.UNLEARN)
        trial.do("deaf", client, protocol.REPAIR)
    trial.strategy.plan = replace(PLAN, repair_rounds=0)
    [outcome] = trial.serve(CLASS).requests
    assert outcome.status is Status.FAILED
    assert "retained validation accuracy" in (outcome.reason or "")


@pytest.mark.parametrize("kind", ["deaf", "raises"])
def test_relapse_is_looked_for_again_where_nobody_audits(tmp_path: Path, kind: str) -> None:
    """Client 2 comes back and writes what it owes; nobody answers the audit that follows."""
    trial = trained(tmp_path)
    trial.grid.gone.add(2)
    trial.serve(CLASS)
    trial.grid.heal()
    for client in range(4):
        trial.do(kind, client, protocol.AUDIT)
    assert trial.serve().relapse == []
    assert trial.owed() == ()
    trial.grid.heal()
    assert [row.after for row in trial.train(1).relapse] == ["tombstones:2", "train:2"]


# ---------------------------------------------------------------------- query.identify


def test_who_fails_to_say_who_it_is_is_asked_again(tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    trial.do("raises", 2, protocol.IDENTIFY, times=PLAN.retry.count)
    assert same_bytes(trial.train().arrays, trained_with("none", 2, 2))


def says(**facts: object) -> Change:
    def changed(reply: Message) -> None:
        stamp = reply.content.config_records[protocol.STAMP_KEY]
        reply.content[protocol.STAMP_KEY] = ConfigRecord({**stamp, **facts})  # type: ignore[dict-item]

    return changed


UNKNOWN: dict[str, Change] = {
    "no stamp": without(protocol.STAMP_KEY),
    "a stamp of another kind": says(tombstones=3.5),
    "no classes": metric("class-count", float("nan")),
    "other classes": metric("class-count", 3),
    "no samples": metric("class-samples", [1, 2]),
    "samples below zero": metric("class-samples", [-1] * 10),
}


@pytest.mark.parametrize("kind", ["raises", *NO_ANSWER, *UNKNOWN])
def test_who_does_not_say_who_it_is_is_left_out(tmp_path: Path, kind: str) -> None:
    trial = Trial(tmp_path)
    if kind in UNKNOWN:
        trial.grid.spoil(UNKNOWN[kind], 2, protocol.IDENTIFY)
    else:
        trial.do(kind, 2, protocol.IDENTIFY)
    assert same_bytes(trial.train().arrays, trained_with("gone", 2, 2))
    trial.grid.heal()
    trial.trained_on()
    trial.train(1)
    assert trial.trained_on() & trial.ids_of(2), "the next call asks anew"


def test_two_nodes_that_say_one_name_both_wait(tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    trial.grid.spoil(says(client_id="1"), 2, protocol.IDENTIFY)
    trial.train()
    trained = trial.trained_on()
    assert trained & trial.ids_of(0)
    assert not trained & (trial.ids_of(1) | trial.ids_of(2))
    trial.grid.heal()
    trial.train(1)
    again = trial.trained_on()
    assert again & trial.ids_of(1) and again & trial.ids_of(2), "the next call asks anew"


@pytest.mark.parametrize("kind", ["deaf", "raises", "gone"])
def test_the_first_call_says_that_nothing_is_set_up_and_later_ones_wait(tmp_path: Path, kind: str) -> None:
    trial = Trial(tmp_path)
    for client in range(4):
        trial.do(kind, client, protocol.IDENTIFY)
    with pytest.raises(FedUnlearnError, match="no node"):
        trial.train()
    trial.grid.heal()
    served = trial.train().arrays
    for client in range(4):
        trial.do(kind, client, protocol.IDENTIFY)
    for request in (CLASS, SAMPLES, ForgetRequest.for_client(1)):
        trial.strategy.submit(request)
    result = trial.strategy.start(trial.grid, num_rounds=1, timeout=0.2)
    assert same_bytes(result.arrays, served)
    assert {trial.status(name) for name in ("r1", "r2", "r3")} == {Status.WAITING}
    trial.grid.heal()
    result = trial.strategy.start(trial.grid, initial_arrays(), num_rounds=1, timeout=0.2)
    assert {outcome.status for outcome in result.requests} == {Status.COMMITTED}


def test_a_client_that_comes_back_under_a_new_node_takes_the_place_of_its_old_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While its old node is still thought to be connected, both are named and wait."""
    trial = Trial(tmp_path / "moved")
    stores = [
        {"client-dir": str(tmp_path / "moved" / "clients" / str(client)), "partition-id": client}
        for client in (0, 1, 2, 3, 2)
    ]
    trial.grid = FaultyGrid(InProcessGrid(trial.federation.app, 5, node_configs=stores))
    trial.grid.gone.add(4)
    trial.train(1)
    trial.serve(CLASS)
    trial.grid.gone.clear()
    with caplog.at_level("WARNING", logger="fed_unlearn"):
        trial.train(1)
    said = "nodes 3 and 5 all say that they are client 2; none of them takes part until one is left"
    assert any(said in record.getMessage() for record in caplog.records)
    trial.grid.gone.add(2)
    moved = trial.train(1).arrays
    assert (trial.grid.count(2, protocol.TRAIN), trial.grid.count(4, protocol.TRAIN)) == (1, 1)
    stayed = Trial(tmp_path / "stayed")
    stayed.train(1)
    stayed.serve(CLASS)
    stayed.grid.gone.add(2)
    stayed.train(1)
    stayed.grid.gone.clear()
    assert same_bytes(moved, stayed.train(1).arrays)
