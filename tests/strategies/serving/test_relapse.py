"""What was forgotten and comes back: it is seen, written down, and forgotten once more where that is wanted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fault_trials import PLAN, Trial, trained
from flwr.app import Message
from shared_requests import attempts, committed, instead

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, same_bits, unpack
from fed_unlearn.audits.pooled import Audit
from fed_unlearn.errors import InvalidRequestError
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import UnlearningResult
from fed_unlearn.strategies.clients.audit import Auditor
from fed_unlearn.strategies.clients.messages.exchange import NobodyAnsweredError
from fed_unlearn.strategies.outcomes import RelapseRow
from fed_unlearn.strategies.serving.relapse import relapse_rows
from fed_unlearn.strategies.state import owe_look

FORGETTING = Thresholds(max_forget_accuracy=0.05, max_retain_drop=None, max_total_retain_drop=None)
GATE = Gate(class_thresholds=FORGETTING, sample_thresholds=FORGETTING, max_training_drop=1.0)
FORGETS = {
    "boundary-shrink": {"epochs": 10, "learning_rate": 0.02},
    "instance-wise": {"max_steps": 60, "retained": "anchors"},
}
REOPENS = replace(PLAN, parameters=FORGETS, reopen_relapsed=True, max_holder_steps=12)
REQUESTS = {
    "class": ForgetRequest.for_class(3, id="r1"),
    "sample": ForgetRequest.for_samples(2, count=4, id="r1"),
}


class Forgotten:
    """A federation that has forgotten something, and the model that had not."""

    def __init__(self, folder: Path, scope: str = "class", *, plan: object = REOPENS) -> None:
        self.trial: Trial = trained(folder, gate=GATE, plan=plan)
        self.known: Arrays = unpack(self.trial.train(6).arrays)
        assert committed(self.trial.serve(REQUESTS[scope])) == ["r1"]
        self.model: Arrays = unpack(self.trial.train(0).arrays)

    def bring_back(self, rounds: int = 1) -> UnlearningResult:
        """A training experience that ends with the model from before the request."""
        for client in range(4):
            self.trial.grid.spoil(instead(self.known), client, protocol.TRAIN, rounds)
        return self.trial.train(rounds)

    def events(self, name: str = "r1") -> list[str]:
        """What the ledger has of a request, in order, since it was first committed."""
        names = [event.name for event in self.trial.strategy.ledger.events() if event.request_id == name]
        return names[names.index("committed") + 1 :]


@pytest.fixture(params=["class", "sample"])
def forgotten(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Forgotten]:
    yield Forgotten(tmp_path, request.param)


def row_after(result: UnlearningResult, after: str) -> RelapseRow:
    return next(row for row in result.relapse if row.after == after)


# ---------------------------------------------------------------------- it is seen


@pytest.mark.parametrize("scope", ["class", "sample"])
def test_what_comes_back_is_written_down_and_left_where_nobody_wants_more(tmp_path: Path, scope: str) -> None:
    forgotten = Forgotten(tmp_path, scope, plan=replace(REOPENS, reopen_relapsed=False))
    result = forgotten.bring_back()
    assert result.requests == []
    row = row_after(result, "train:3")
    assert row.relapsed == ("r1",)
    assert row.forget_accuracy["r1"] is not None and row.forget_accuracy["r1"] > 0.5
    assert forgotten.trial.status() is Status.COMMITTED
    assert forgotten.events() == ["relapsed"]
    recorded = relapse_rows(forgotten.trial.strategy.ledger)[-1]
    assert (recorded.after, recorded.relapsed, recorded.forget_accuracy) == ("train:3", ("r1",), row.forget_accuracy)


def test_what_stays_forgotten_is_no_relapse(forgotten: Forgotten) -> None:
    result = forgotten.trial.train(0)
    assert result.relapse == [] and forgotten.events() == []
    [row] = [row for row in relapse_rows(forgotten.trial.strategy.ledger) if row.after == "r1"]
    assert row.relapsed == () and row.forget_accuracy["r1"] == 0.0


def test_a_class_is_judged_by_unseen_samples_where_its_own_are_gone_and_is_not_opened_again(tmp_path: Path) -> None:
    forgotten = Forgotten(tmp_path, plan=replace(REOPENS, retention_days=0.0))
    row = row_after(forgotten.bring_back(), "train:3")
    assert row.relapsed == ("r1",)
    assert row.forget_accuracy["r1"] is None, "nobody keeps its samples"
    assert row.test_forget_accuracy["r1"] is not None and row.test_forget_accuracy["r1"] > 0.5
    assert forgotten.events() == ["relapsed"]
    assert forgotten.trial.status() is Status.COMMITTED


def test_nobody_can_tell_of_samples_that_are_kept_no_longer(tmp_path: Path) -> None:
    forgotten = Forgotten(tmp_path, "sample", plan=replace(REOPENS, retention_days=0.0))
    row = row_after(forgotten.bring_back(), "train:3")
    assert (row.relapsed, row.forget_accuracy) == ((), {"r1": None})
    assert forgotten.events() == []


def test_a_later_request_that_would_bring_it_back_is_refused_and_the_model_serves_on(tmp_path: Path) -> None:
    forgotten = Forgotten(tmp_path)
    trial = forgotten.trial
    for client in range(4):
        trial.grid.spoil(instead(forgotten.known), client, protocol.UNLEARN)
        trial.grid.spoil(instead(forgotten.known), client, protocol.REPAIR)
    indulgent = replace(FORGETTING, max_forget_accuracy=None)
    trial.strategy.gate = replace(GATE, sample_thresholds=indulgent)
    result = trial.serve(ForgetRequest.for_samples(0, count=1, id="other"))
    assert committed(result) == [] and trial.status("other") is Status.FAILED
    assert "it would undo request r1: forget accuracy" in trial.reason("other")
    assert same_bits(unpack(result.arrays), forgotten.model)
    assert (trial.status(), forgotten.events()) == (Status.COMMITTED, [])
    trial.grid.heal()
    assert trial.serve().requests == []
    assert (trial.status(), attempts(trial)["r1"]) == (Status.COMMITTED, 1)


# ---------------------------------------------------------------------- it is forgotten once more


def test_what_comes_back_is_opened_again_and_forgotten(forgotten: Forgotten) -> None:
    trial = forgotten.trial
    result = forgotten.bring_back()
    [outcome] = result.requests
    assert (outcome.request.id, outcome.status, outcome.attempts) == ("r1", Status.COMMITTED, 2)
    assert outcome.before is not None and outcome.after is not None
    assert outcome.before.forget_accuracy is not None and outcome.before.forget_accuracy > 0.5
    assert outcome.after.forget_accuracy is not None and outcome.after.forget_accuracy <= 0.05
    assert row_after(result, "train:3").relapsed == ("r1",)
    assert row_after(result, "r1").relapsed == ()
    steps = [name for name in forgotten.events() if name not in ("auditing", "repairing")]
    assert steps == ["relapsed", "reopened", "unlearning", "committing", "committed"]
    held = next(client for client in range(4) if "r1" in trial.stored(client))
    sample_ids = set(trial.stored(held)["r1"]["sample_ids"])  # type: ignore[call-overload]
    trial.trained_on()
    trial.train(2)
    seen = trial.trained_on()
    assert seen and not seen & sample_ids
    assert trial.strategy.ledger.verify().problem is None


def test_it_is_opened_again_in_the_middle_of_training(tmp_path: Path) -> None:
    """A waiting request has the rounds so far looked at: what came back in them is forgotten before the next one."""
    forgotten = Forgotten(tmp_path)
    trial = forgotten.trial
    for client in range(4):
        trial.grid.spoil(instead(forgotten.known), client, protocol.TRAIN, 1)
    heard: list[int] = []

    def ask_in_the_first_round(client: int, reply: object) -> None:
        heard.append(client)
        if len(heard) == 1:
            trial.strategy.submit(ForgetRequest.for_samples(1, count=1, id="other"))

    trial.grid.watch(protocol.TRAIN, ask_in_the_first_round)
    result = trial.train(3)
    assert committed(result)[:2] == ["r1", "other"]
    assert [row.after for row in result.relapse][:4] == ["train:3", "r1", "other", "train:3"]
    assert ["r1" in row.relapsed for row in result.relapse][:4] == [True, False, False, False]


def test_what_cannot_be_forgotten_again_ends_failed_and_stays_out_of_training(forgotten: Forgotten) -> None:
    trial = forgotten.trial
    scope = trial.strategy.ledger.entry("r1").request.scope.kind
    before = trial.strategy.ledger.forgotten_classes()
    for client in range(4):
        trial.grid.spoil(instead(forgotten.known), client, protocol.UNLEARN)
        trial.grid.spoil(instead(forgotten.known), client, protocol.REPAIR)
    trial.strategy.gate = replace(GATE, max_repair_rounds=0, max_attempts=2)
    result = forgotten.bring_back()
    [outcome] = result.requests
    assert (outcome.status, outcome.attempts) == (Status.FAILED, 3)
    assert "forget accuracy" in (outcome.reason or "")
    assert outcome.after is not None and (outcome.after.forget_accuracy or 0.0) > 0.5
    accepted = [event.facts for event in trial.strategy.ledger.events() if event.name == "model-accepted"][-1]
    assert accepted == {"after": "train:3", "digest": trial.strategy.ledger.served_model()}
    trained_last, served = trial.strategy.checkpoints.load(str(accepted["digest"])), unpack(result.arrays)
    assert all(np.array_equal(served[name], trained_last[name]) for name in served), "what training left, to the bit"
    trial.grid.heal()
    held = [client for client in range(4) if "r1" in trial.stored(client)]
    assert all(trial.stored(client)["r1"]["tombstoned"] for client in held)
    assert trial.strategy.ledger.forgotten_classes() == before == ({3} if scope == "class" else frozenset())
    trial.restart()
    trial.trained_on()
    later = trial.train(2)
    sample_ids = set().union(*(trial.stored(client)["r1"]["sample_ids"] for client in held))  # type: ignore[call-overload]
    assert not trial.trained_on() & sample_ids
    assert attempts(trial)["r1"] == 3, "it is not tried again"
    assert set(later.relapse[-1].forget_accuracy) == {"r1"}, "it is still looked at"
    if scope == "class":
        trial.serve(ForgetRequest.for_class(3, id="again"))
        assert trial.status("again") is Status.REJECTED


def test_who_is_away_when_its_samples_come_back_is_waited_for(tmp_path: Path) -> None:
    """A sample request that relapsed needs its holder: it waits, is served when the holder is back, and is not lost."""
    forgotten = Forgotten(tmp_path, "sample")
    trial = forgotten.trial
    trial.grid.watch(protocol.AUDIT, lambda client, reply: trial.grid.gone.add(2) if client == 3 else None)
    forgotten.bring_back()
    assert trial.status() is Status.WAITING
    assert forgotten.events() == ["relapsed", "reopened", "waiting"]
    trial.grid.watch(protocol.AUDIT, lambda client, reply: None)
    trial.grid.heal()
    with pytest.raises(InvalidRequestError, match="was committed"):
        trial.strategy.ledger.withdraw("r1")
    assert committed(trial.serve()) == ["r1"]


def test_a_relapse_survives_a_restart(tmp_path: Path) -> None:
    """Opened again by one process, served by the next."""
    forgotten = Forgotten(tmp_path)
    trial = forgotten.trial
    trial.strategy.ledger.advance("r1", Status.REOPENED, attempt=1, reason="seen by a process that is gone")
    trial.restart()
    assert committed(trial.serve()) == ["r1"]
    assert attempts(trial) == {"r1": 2}


def test_a_look_that_nobody_can_audit_is_told_and_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten = Forgotten(tmp_path)
    trial, ledger = forgotten.trial, forgotten.trial.strategy.ledger
    with ledger.transaction():
        owe_look(ledger, "r1", may_reopen=False)
        owe_look(ledger, "tombstones:2", may_reopen=False)

    def nobody(self: Auditor, arrays: Arrays) -> Audit:
        raise NobodyAnsweredError("no client answered evaluate.audit")

    with monkeypatch.context() as broken:
        broken.setattr(Auditor, "audit_committed", nobody)
        missed = trial.train(0)
    assert missed.relapse_due == ["r1", "tombstones:2"]
    told = [event.facts["after"] for event in ledger.events() if event.name == "relapse-not-audited"]
    assert told == ["r1", f"tombstones:{ledger.client_reference('2')}"]
    assert missed.relapse == []
    later = trial.train(0)
    assert [row.after for row in later.relapse] == ["r1", "tombstones:2"]
    assert later.relapse_due == []
    missed.include(later)
    assert missed.relapse_due == []


def test_the_look_after_a_commit_costs_no_message(tmp_path: Path) -> None:
    """The audit by which the gate accepted the model has the earlier requests in it."""
    trial = trained(tmp_path)
    trial.serve(ForgetRequest.for_class(8, id="earlier"))
    trial.grid.sent.clear()
    result = trial.serve(ForgetRequest.for_class(3, id="later"))
    [row] = result.relapse
    assert row.after == "later" and set(row.forget_accuracy) == {"earlier", "later"}
    kinds = [kind for _, kind in trial.grid.sent]
    last_audit = max(place for place, kind in enumerate(kinds) if kind == protocol.AUDIT)
    assert set(kinds[last_audit + 1 :]) == {protocol.CONFIRM}


# ---------------------------------------------------------------------- samples whose misclassification is to last


LASTS = replace(
    REOPENS, reopen_relapsed=False, parameters={"instance-wise": {**FORGETS["instance-wise"], "lasting": True}}
)


def test_what_is_to_last_is_served_again_without_a_plan_for_others_and_guarded_meanwhile(tmp_path: Path) -> None:
    forgotten = Forgotten(tmp_path, "sample", plan=LASTS)
    trial = forgotten.trial
    stored = trial.stored(2)["r1"]
    assert stored["tombstoned"] and len(stored["guard_labels"]) == 4  # type: ignore[arg-type]
    trained_on: list[float] = []

    def note(client: int, reply: Message) -> None:
        if client == 2:
            trained_on.append(protocol.read_metric(reply, protocol.WEIGHT))

    trial.grid.watch(protocol.REPAIR, note)
    assert committed(trial.serve(ForgetRequest.for_class(8, id="other"))) == ["other"]
    assert set(trained_on) == {len(trial.ids_of(2))}, "retained samples, and those of both requests as guards"
    result = forgotten.bring_back()
    [outcome] = [item for item in result.requests if item.request.id == "r1"]
    assert (outcome.status, outcome.attempts) == (Status.COMMITTED, 2)
    assert outcome.after is not None and outcome.after.forget_accuracy == 0.0


def test_without_retention_a_request_that_is_to_last_is_rejected(tmp_path: Path) -> None:
    trial = trained(tmp_path, gate=GATE, plan=replace(REOPENS, retention_days=0.0))
    trial.train(1)
    lasting = replace(REQUESTS["sample"], parameters={"lasting": True})
    assert committed(trial.serve(lasting)) == []
    assert trial.status() is Status.REJECTED and "give the plan retention_days" in trial.reason("r1")
