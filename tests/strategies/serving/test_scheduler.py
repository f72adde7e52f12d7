"""Requests that are served alike share their rounds: what is sent, what is summed, what is accepted, and in which order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fault_trials import PLAN, trained
from shared_requests import (
    AT_1,
    AT_1_TOO,
    AT_2,
    asked,
    attempts,
    clipped_sum,
    committed,
    instead,
    shifted,
    statuses,
    steps_of,
    validation_accuracy,
)

from fed_unlearn import protocol
from fed_unlearn.arrays import unpack
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.serving.attempts import reference

ONE_TURN = replace(PLAN, max_holder_steps=1, repair_rounds=0)
ONE_TRY = {"max_repair_rounds": 0, "max_attempts": 1}


# ---------------------------------------------------------------------- what is shared


def test_sample_requests_at_one_and_at_several_clients_share_one_round(tmp_path: Path) -> None:
    trial = trained(tmp_path, plan=ONE_TURN)
    asked(trial)
    result = trial.serve(AT_1, AT_1_TOO, AT_2)
    assert committed(result) == ["a", "b", "c"]
    sent = asked(trial)
    assert sent.pop(protocol.IDENTIFY) == 4
    # One turn at each of the two holders; the served model and the candidate are audited at all four.
    assert sent == {protocol.UNLEARN: 2, protocol.AUDIT: 8, protocol.CONFIRM: 2}
    assert sum(outcome.traffic.messages for outcome in result.requests) == 12
    assert trial.strategy.ledger.events()[-1].facts.get("after", "a+b+c") == "a+b+c"
    assert {name: len(trial.stored(client)[name]["sample_ids"]) for client, name in ((1, "a"), (1, "b"), (2, "c"))} == {  # type: ignore[arg-type]
        "a": 1,
        "b": 2,
        "c": 2,
    }


def test_clipped_changes_are_summed(tmp_path: Path) -> None:
    """By hand in float64; a client may move the model as far for each of its requests as it could for one alone."""
    trial = trained(tmp_path, plan=replace(ONE_TURN, max_update_norm=0.02))
    base = unpack(trial.train(0).arrays)
    models = trial.recorded(protocol.UNLEARN)
    result = trial.serve(AT_1, AT_1_TOO, AT_2)
    assert [client for client, _ in models] == [1, 2]
    by_hand = clipped_sum(base, dict(models), {1: 2 * 0.02, 2: 0.02})
    for name, array in result.arrays.items():
        np.testing.assert_allclose(array.numpy(), by_hand[name], rtol=1e-5, atol=1e-7)
    length = np.sqrt(sum(float(((result.arrays[name].numpy() - base[name]) ** 2).sum()) for name in base))
    assert 0.02 < length <= 0.0601


def test_holders_take_turns_until_none_of_their_samples_is_recognised(tmp_path: Path) -> None:
    """What one holder changes brings back samples of the other: it is asked again, and leaves the model alone if not."""
    patient = replace(PLAN, parameters={"instance-wise": {"max_steps": 60, "retained": "anchors"}}, max_holder_steps=12)
    trial = trained(tmp_path, plan=patient)
    models = trial.recorded(protocol.UNLEARN)
    result = trial.serve(*(ForgetRequest.for_samples(client, count=3) for client in range(4)))
    assert len(committed(result)) == 4
    assert {outcome.after.forget_accuracy for outcome in result.requests if outcome.after} == {0.0}
    final = unpack(result.arrays)
    last = dict(models)
    assert len(models) > 4, "all of them were asked once more"
    for model in last.values():
        assert all(np.array_equal(model[name], final[name]) for name in model), "nobody had anything left to do"


def test_holders_of_samples_that_are_only_to_look_unseen_take_one_turn(tmp_path: Path) -> None:
    """Such samples may stay recognised: that is no reason to ask again."""
    trial = trained(tmp_path, plan=replace(PLAN, max_update_norm=10.0, max_holder_steps=12))
    goal = {"goal": "indistinguishable"}
    asked(trial)
    trial.serve(*(ForgetRequest(item.scope, parameters=goal, id=item.id) for item in (AT_1, AT_1_TOO, AT_2)))
    assert statuses(trial) == dict.fromkeys("abc", "committed")
    counts = asked(trial)
    assert counts[protocol.UNLEARN] == 4, "each holder before the reference is trained, and once to unlearn"
    assert counts[protocol.REPAIR] == 5 * 4, "the rounds of one reference for all requests, at all clients"


@pytest.mark.parametrize("least", [0.8, 1.5])
def test_a_reference_far_below_the_served_model_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, least: float
) -> None:
    monkeypatch.setattr(reference, "LEAST_OF_MODEL", least)  # 1.5: this one counts as far below
    trial = trained(tmp_path, plan=replace(PLAN, max_update_norm=10.0))
    told = steps_of(trial)
    goal = {"goal": "indistinguishable"}
    trial.serve(*(ForgetRequest(item.scope, parameters=goal, id=item.id) for item in (AT_1, AT_2)))
    said = next(text for text in told if "reference for" in text)
    if least < 1:
        assert said == "reference for instance-wise trained without the samples"
    else:
        assert said.startswith(
            "no reference for instance-wise, which goes by ranks: its accuracy on validation samples"
        )


def test_other_methods_and_parameters_do_not_share(tmp_path: Path) -> None:
    trial = trained(tmp_path, plan=ONE_TURN)
    told = steps_of(trial)
    other = ForgetRequest.for_samples(1, count=1, id="other-method", method="random-label")
    stronger = ForgetRequest(AT_2.scope, parameters={"max_steps": 7}, id="other-parameters")
    assert sorted(committed(trial.serve(AT_1, other, stronger, AT_2))) == ["a", "c", "other-method", "other-parameters"]
    assert [text for text in told if text.startswith("unlearned")] == [
        "unlearned by instance-wise at clients 1, 2",
        "unlearned by random-label at client 1",
        "unlearned by instance-wise at client 2",
    ]


def test_nothing_is_shared_where_the_plan_says_so(tmp_path: Path) -> None:
    trial = trained(tmp_path, plan=replace(ONE_TURN, share_rounds=False))
    asked(trial)
    assert committed(trial.serve(AT_1, AT_1_TOO, AT_2)) == ["a", "b", "c"]
    assert asked(trial)[protocol.UNLEARN] == 3


def test_class_requests_share_and_the_same_class_twice_does_not(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    asked(trial)
    classes = {"three": (3,), "eight": (8,), "three-again": (3,), "eight-and-one": (8, 1)}
    result = trial.serve(*(ForgetRequest.for_class(*items, id=name) for name, items in classes.items()))
    assert committed(result) == ["three", "eight"]
    assert statuses(trial) == {
        "three": "committed",
        "eight": "committed",
        "three-again": "rejected",
        "eight-and-one": "rejected",
    }
    assert "class 3 is forgotten already" in trial.reason("three-again")
    assert "class 8 is forgotten already" in trial.reason("eight-and-one")
    assert asked(trial)[protocol.UNLEARN] == 4, "one round for both, at every client once"
    stored = trial.stored(1)
    assert set(stored["three"]["sample_ids"]) == trial.ids_of_class(1, 3)  # type: ignore[call-overload]
    assert set(stored["eight"]["sample_ids"]) == trial.ids_of_class(1, 8)  # type: ignore[call-overload]
    assert result.requests[0].after is not None
    assert result.requests[0].after.test_retain_accuracy == result.requests[1].after.test_retain_accuracy  # type: ignore[union-attr]


def test_classes_that_would_leave_too_few_together_do_not_share(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    trial.serve(
        ForgetRequest.for_class(0, 1, 2, 3, id="low"),
        ForgetRequest.for_class(4, 5, 6, 7, id="high"),
        ForgetRequest.for_class(8, id="one-more"),
    )
    assert statuses(trial) == {"low": "committed", "high": "committed", "one-more": "rejected"}
    assert "fewer than 2 of 10 classes" in trial.reason("one-more")


# ---------------------------------------------------------------------- what is accepted


def test_what_is_not_forgotten_is_tried_again_and_the_others_are_committed(tmp_path: Path) -> None:
    forgets = {"instance-wise": {"max_steps": 60, "retained": "anchors"}}
    trial = trained(tmp_path, plan=replace(ONE_TURN, parameters=forgets, max_update_norm=10.0))
    only_forgetting = Thresholds(max_forget_accuracy=0.0, max_retain_drop=None, max_total_retain_drop=None)
    trial.strategy.gate = Gate(sample_thresholds=only_forgetting, max_repair_rounds=0, max_attempts=2)
    base = unpack(trial.train(6).arrays)
    trial.grid.spoil(instead(base), 2, protocol.UNLEARN)
    others = trial.recorded(protocol.UNLEARN)

    def heal_after_the_first_attempt(client: int, reply: object) -> None:
        trial.grid.heal()

    trial.grid.watch(protocol.DISCARD, heal_after_the_first_attempt)
    many = ForgetRequest.for_samples(2, count=8, id="c")
    result = trial.serve(AT_1, AT_1_TOO, many)
    assert committed(result) == ["a", "b", "c"]
    assert attempts(trial) == {"a": 1, "b": 1, "c": 2}
    assert {outcome.after.forget_accuracy for outcome in result.requests if outcome.after} == {0.0}
    accepted = [str(event.facts["after"]) for event in trial.strategy.ledger.events() if event.name == "model-accepted"]
    assert accepted[-2:] == ["a+b", "c"]
    assert {client for client, _ in others} == {1, 2}


def test_where_too_much_is_lost_together_each_is_tried_by_itself(tmp_path: Path) -> None:
    """Two holders who each shift the same logit: the gate lets each through, and not both at once."""
    hardly = {"instance-wise": {"max_steps": 1, "learning_rate": 1e-9}}
    plan = replace(ONE_TURN, parameters=hardly, max_update_norm=1000.0)
    trial = trained(tmp_path, plan=plan)
    base = unpack(trial.train(6).arrays)
    name = next(name for name, value in base.items() if value.shape == (10,))
    for by in np.arange(0.5, 20.0, 0.25):
        moved = [{**base, name: base[name] + np.eye(10, dtype=np.float32)[0] * by * times} for times in (0, 1, 2)]
        kept = [validation_accuracy(trial, model) for model in moved]
        once, twice = kept[0] - kept[1], kept[0] - kept[2]
        if once > 0 and max(once, twice - once) + 0.01 < twice:
            break
    bound = (max(once, twice - once) + twice) / 2
    lossy = Thresholds(max_forget_accuracy=None, max_retain_drop=bound, max_total_retain_drop=None)
    trial.strategy.gate = Gate(sample_thresholds=lossy, **ONE_TRY)  # type: ignore[arg-type]
    for client in (1, 2):
        trial.grid.spoil(shifted(name, 0, float(by)), client, protocol.UNLEARN)
    told = steps_of(trial)
    result = trial.serve(AT_1, AT_2)
    assert committed(result) == ["a", "c"]
    assert attempts(trial) == {"a": 2, "c": 2}
    assert [text for text in told if text.startswith("unlearned")] == [
        "unlearned by instance-wise at clients 1, 2",
        "unlearned by instance-wise at client 1",
        "unlearned by instance-wise at client 2",
    ]
    assert sum("retained validation accuracy" in text for text in told) == 2, "both were rolled back, once"
    np.testing.assert_allclose(result.arrays[name].numpy()[0] - base[name][0], 2 * by, rtol=1e-2)


def test_a_holder_that_fails_takes_no_other_request_with_it(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    trial.grid.fault("raises", 2, protocol.UNLEARN)
    told = steps_of(trial)
    result = trial.serve(AT_1, AT_2, ForgetRequest.for_samples(3, count=1, id="d"))
    assert statuses(trial) == {"a": "committed", "c": "failed", "d": "committed"}
    assert attempts(trial)["c"] == Gate().max_attempts
    assert next(text for text in told if text.startswith("unlearned")) == "unlearned by instance-wise at clients 1, 3"
    assert {outcome.request.id: outcome.method for outcome in result.requests} == dict.fromkeys("acd", "instance-wise")


# ---------------------------------------------------------------------- in which order


def test_priority_comes_before_deadline_and_deadline_before_arrival(tmp_path: Path) -> None:
    trial = trained(tmp_path, plan=replace(ONE_TURN, share_rounds=False))
    order = {
        "first": {},
        "late": {"deadline": 2_000.0},
        "soon": {"deadline": 1_000.0},
        "urgent": {"priority": 1},
        "urgent-and-soon": {"priority": 1, "deadline": 3_000.0},
        "unimportant": {"priority": -1, "deadline": 1.0},
    }
    requests = [ForgetRequest.for_samples(1, count=1, id=name, **how) for name, how in order.items()]  # type: ignore[arg-type]
    assert committed(trial.serve(*requests)) == ["urgent-and-soon", "urgent", "soon", "late", "first", "unimportant"]


def test_what_waits_holds_up_neither_requests_nor_training(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    trial.grid.gone.add(2)
    trial.strategy.submit(AT_2)
    trial.strategy.submit(AT_1)
    asked(trial)
    result = trial.strategy.start(trial.grid, num_rounds=4, timeout=0.2)
    assert committed(result) == ["a"]
    assert (trial.status("c"), trial.reason("c")) == (Status.WAITING, "client 2 is not reachable")
    sent = asked(trial)
    assert sent[protocol.TRAIN] == 4 * 3
    # The request's two audits, and one of the trained model: none between rounds, where there is nothing to be done.
    assert sent[protocol.AUDIT] == 3 * 3
    trial.grid.heal()
    trial.restart()
    assert committed(trial.serve()) == ["c"]


def test_who_comes_back_in_the_middle_of_training_is_served_there(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    trial.grid.gone.add(2)
    trial.strategy.submit(AT_2)
    trained_rounds: list[int] = []

    def back_in_the_second_round(client: int, reply: object) -> None:
        trained_rounds.append(client)
        if len(trained_rounds) == 6:
            trial.grid.heal()

    trial.grid.watch(protocol.TRAIN, back_in_the_second_round)
    result = trial.strategy.start(trial.grid, num_rounds=5, timeout=0.2)
    assert committed(result) == ["c"]
    assert sorted(trained_rounds[:6]) == [0, 0, 1, 1, 3, 3]
    assert sorted(trained_rounds[6:]) == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    accepted = [str(event.facts["after"]) for event in trial.strategy.ledger.events() if event.name == "model-accepted"]
    assert accepted[-3:] == ["train:2", "c", "train:2"], "the rounds so far were looked at first"


@pytest.mark.parametrize("kind", ["class", "sample"])
def test_one_request_alone_is_what_it_always_was(tmp_path: Path, kind: str) -> None:
    """Sharing changes nothing for a request that has nobody to share with."""
    request = AT_2 if kind == "sample" else ForgetRequest.for_class(3)
    models = []
    for shares in (True, False):
        trial = trained(tmp_path / str(shares), plan=replace(PLAN, share_rounds=shares))
        models.append(unpack(trial.serve(request).arrays))
    assert all(np.array_equal(models[0][name], models[1][name]) for name in models[0])
