"""A request that its method cannot satisfy: a stronger setting, then other methods, then nothing but quarantine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fault_trials import PLAN, few_digits, trained
from federation import small_model
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import FedMedian, MultiKrum, Strategy
from shared_requests import committed, instead, statuses, steps_of
from torch import nn

from fed_unlearn import protocol
from fed_unlearn.arrays import unpack
from fed_unlearn.data.images import ClientData, concatenate
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.seeding import seeded_generator
from fed_unlearn.strategies import UnlearningPlan
from fed_unlearn.training import TrainingSettings, train_locally

FORGETTING = Thresholds(max_forget_accuracy=0.05, max_retain_drop=None, max_total_retain_drop=None)
STRICT = Gate(class_thresholds=FORGETTING, sample_thresholds=FORGETTING, max_repair_rounds=0, max_attempts=2)
USELESS = UnlearningPlan(
    parameters={
        "boundary-shrink": {"epochs": 1, "learning_rate": 1e-6},
        "random-label": {"max_steps": 1, "learning_rate": 1e-9},
    },
    repair_rounds=0,
    retention_days=1.0,
    backoff_seconds=0.0,
)
CLASS = ForgetRequest.for_class(3)
ROUNDS = 6


def test_a_method_is_made_stronger_and_then_the_next_one_is_tried(tmp_path: Path) -> None:
    trial = trained(tmp_path, gate=STRICT, plan=replace(USELESS, escalation={"class": ("random-label", "retrain")}))
    trial.train(ROUNDS)
    told = steps_of(trial)
    answered: list[float] = []
    trial.grid.watch(
        protocol.UNLEARN,
        lambda client, reply: answered.append(protocol.read_metric(reply, "steps")) if client == 0 else None,
    )
    trial.trained_on()
    [outcome] = trial.serve(CLASS).requests
    assert outcome.status is Status.COMMITTED
    assert (outcome.method, outcome.attempts) == ("retrain", 5)
    assert outcome.after is not None and outcome.after.forget_accuracy == 0.0
    methods = [text.split(" at ")[0] for text in told if text.startswith("unlearned by")]
    assert methods == ["unlearned by boundary-shrink"] * 2 + ["unlearned by random-label"] * 2
    assert answered[0] > 0 and answered[1] == 2 * answered[0], "the second attempt goes on for twice as long"
    assert sum("rolled back: forget accuracy" in text for text in told) == 4
    recorded = [
        (event.attempt, event.facts["method"]) for event in trial.strategy.ledger.events() if event.name == "unlearning"
    ]
    assert recorded == [
        (1, "boundary-shrink"),
        (2, "boundary-shrink"),
        (3, "random-label"),
        (4, "random-label"),
        (5, "retrain"),
    ]
    assert not trial.trained_on() & trial.ids_of_class(0, 3), "retraining did without it"


def test_a_sample_request_ends_in_retraining_too(tmp_path: Path) -> None:
    """What retraining leaves of a sample is what the gate must allow: the model may guess it, from others like it."""
    guessed = Thresholds(max_forget_accuracy=None, max_retain_drop=None, max_total_retain_drop=None)
    trial = trained(tmp_path, plan=replace(PLAN, escalation={"sample": ("retrain",)}))
    trial.strategy.gate = Gate(sample_thresholds=guessed, max_attempts=1)
    trial.grid.fault("raises", 2, protocol.UNLEARN, times=PLAN.retry.count + 1)
    [outcome] = trial.serve(ForgetRequest.for_samples(2, count=2)).requests
    assert (outcome.status, outcome.method, outcome.attempts) == (Status.COMMITTED, "retrain", 2)


def test_without_a_list_it_ends_failed_with_its_figures(tmp_path: Path) -> None:
    trial = trained(tmp_path, gate=STRICT, plan=USELESS)
    served = unpack(trial.train(ROUNDS).arrays)
    told = steps_of(trial)
    result = trial.serve(CLASS)
    [outcome] = result.requests
    assert (outcome.status, outcome.method, outcome.attempts) == (Status.FAILED, "boundary-shrink", 2)
    assert outcome.after is not None and outcome.after.forget_accuracy is not None
    assert outcome.after.forget_accuracy > 0.05
    assert f"forget accuracy {outcome.after.forget_accuracy:.3f} is over 0.050" in (outcome.reason or "")
    assert sum(text.startswith("unlearned by") for text in told) == 2
    after = unpack(result.arrays)
    assert all(np.array_equal(after[name], served[name]) for name in served)
    again = trial.strategy.outcome("r1")
    assert again == outcome, "the ledger has the figures too"
    trial.trained_on()
    trial.train(1)
    forgotten = frozenset().union(*(trial.ids_of_class(client, 3) for client in range(4)))
    assert not trial.trained_on() & forgotten
    assert trial.strategy.ledger.forgotten_classes() == frozenset()


def test_what_failed_can_be_asked_for_again_by_another_method(tmp_path: Path) -> None:
    """The samples are in quarantine for the first request; the second one forgets them all the same."""
    trial = trained(tmp_path, gate=STRICT, plan=USELESS)
    trial.train(ROUNDS)
    trial.serve(CLASS)
    again = ForgetRequest.for_class(3, id="again", method="retrain")
    assert committed(trial.serve(again)) == ["again"]
    assert statuses(trial) == {"r1": "failed", "again": "committed"}
    assert set(trial.stored(0)["again"]["sample_ids"]) == trial.ids_of_class(0, 3)  # type: ignore[call-overload]
    assert trial.stored(0)["again"]["tombstoned"] and not trial.stored(0)["r1"]["tombstoned"]


def test_a_method_that_fails_at_its_holders_is_followed_by_the_next(tmp_path: Path) -> None:
    trial = trained(tmp_path, plan=replace(PLAN, escalation={"class": ("retrain",)}))
    trial.grid.fault("raises", 1, protocol.UNLEARN, times=2 * (PLAN.retry.count + 1))
    [outcome] = trial.serve(CLASS).requests
    assert (outcome.status, outcome.method, outcome.attempts) == (Status.COMMITTED, "retrain", 3)


def test_escalation_is_by_request_where_several_share_a_round(tmp_path: Path) -> None:
    """One is satisfied by the first method, the other goes on alone."""
    forgets = {"instance-wise": {"max_steps": 60, "retained": "anchors"}}
    plan = replace(PLAN, parameters=forgets, max_holder_steps=1, max_update_norm=10.0)
    trial = trained(tmp_path, plan=replace(plan, escalation={"sample": ("random-label",)}))
    base = unpack(trial.train(ROUNDS).arrays)
    trial.strategy.gate = Gate(sample_thresholds=replace(FORGETTING, max_forget_accuracy=0.5), max_repair_rounds=0)
    trial.grid.spoil(instead(base), 2, protocol.UNLEARN)
    told = steps_of(trial)

    def heal(client: int, reply: object) -> None:
        if trial.strategy.ledger.entry("stubborn").attempt == 2:
            trial.grid.heal()

    trial.grid.watch(protocol.DISCARD, heal)
    result = trial.serve(
        ForgetRequest.for_samples(1, count=2, id="easy"), ForgetRequest.for_samples(2, count=8, id="stubborn")
    )
    outcomes = {outcome.request.id: outcome for outcome in result.requests}
    assert (outcomes["easy"].method, outcomes["easy"].attempts) == ("instance-wise", 1)
    assert outcomes["stubborn"].method == "random-label" and outcomes["stubborn"].attempts >= 3
    assert [text for text in told if text.startswith("unlearned")][:3] == [
        "unlearned by instance-wise at clients 1, 2",
        "unlearned by instance-wise at client 2",
        "unlearned by random-label at client 2",
    ]


def krum() -> Strategy:
    return MultiKrum(num_malicious_nodes=0, num_nodes_to_select=1, fraction_evaluate=0.0)


def middle() -> Strategy:
    return FedMedian(fraction_evaluate=0.0)


def threes_at_client_2_alone(client: int) -> ClientData:
    data = few_digits(client)
    others = data.train.of_classes(set(range(10)) - {3})
    return data if client == 2 else replace(data, train=others)


@pytest.mark.parametrize("new_inner", [krum, middle])
def test_a_robust_aggregator_that_discards_the_holder_is_noticed_and_escalated(
    tmp_path: Path, new_inner: Callable[[], Strategy]
) -> None:
    """Three of four still have the class after repair: the aggregator takes the one that has not for an attacker."""
    trial = trained(tmp_path, data_of=threes_at_client_2_alone, new_inner=new_inner)
    trial.strategy.plan = replace(PLAN, escalation={"class": ("retrain",)})
    trial.strategy.gate = replace(STRICT, max_repair_rounds=2)
    trial.train(ROUNDS)
    base = unpack(ArrayRecord(knows_all_digits().state_dict()))
    for client in (0, 1, 3):
        trial.grid.spoil(instead(base), client, protocol.REPAIR)
    told = steps_of(trial)
    [outcome] = trial.serve(CLASS).requests
    assert (outcome.status, outcome.method, outcome.attempts) == (Status.COMMITTED, "retrain", 3)
    assert outcome.after is not None and outcome.after.forget_accuracy == 0.0
    noticed = [text for text in told if text.startswith("repair more: forget accuracy")]
    assert len(noticed) == 2, "once in each attempt there was a repair round left"


def knows_all_digits() -> nn.Module:
    """A model that a majority of clients might have: it knows the class that client 2 alone still unlearns."""
    model = small_model()
    settings = TrainingSettings(local_epochs=5, learning_rate=0.1, momentum=0.9, batch_size=32)
    train_locally(model, concatenate(*(few_digits(client).train for client in range(4))), settings, seeded_generator(0))
    return model
