"""A request that its own method cannot serve on one machine is served by the next one, and the outcome says by which."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache

import pytest
import torch
from federation import SETTINGS, digits_of, small_model
from torch import nn

from fed_unlearn.audits.accuracy import ClassCounts
from fed_unlearn.data.domain import PIXELS, VALUES, InputDomain
from fed_unlearn.errors import InvalidModelError, InvalidParameterError
from fed_unlearn.gate import Gate
from fed_unlearn.local import LocalOutcome, LocalPlan, LocalSamples, LocalUnlearning
from fed_unlearn.logits import predict_logits
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.training import train_locally

GATE = Gate(max_repair_rounds=0)
USELESS = LocalPlan(
    parameters={
        "boundary-shrink": {"epochs": 1, "learning_rate": 1e-6},
        "random-label": {"max_steps": 1, "learning_rate": 1e-9},
    },
    repair=SETTINGS,
    repair_rounds=0,
)
CLASS = ForgetRequest.for_class(3, id="c3")


@cache
def trained() -> nn.Module:
    model = small_model()
    settings = replace(SETTINGS, local_epochs=15)
    train_locally(model, digits_of(0, clients=1, size=500).train, settings, torch.Generator().manual_seed(0))
    return model


def samples(label: int = 3) -> LocalSamples:
    train = digits_of(0, clients=1, size=500).train
    forget = train.of_classes([label])
    none = train.without(train.ids)
    return LocalSamples(forget=forget, retained=train.without(forget.ids), validation=none, retained_from="seen")


def served(plan: LocalPlan, request: ForgetRequest = CLASS, model: nn.Module | None = None) -> LocalOutcome:
    return LocalUnlearning(plan, GATE).serve(model or trained(), request, samples())


def test_the_default_plan_resets_and_relearns_what_its_method_cannot_forget() -> None:
    outcome = served(USELESS)
    assert outcome.committed and outcome.model is not None
    assert (outcome.method, outcome.escalated_from, outcome.attempts) == ("reset-and-relearn", ("boundary-shrink",), 3)
    assert outcome.retained_from == "seen"
    counts = ClassCounts.of(predict_logits(outcome.model, samples().forget), samples().forget.labels, 10)
    assert counts.accuracy() == 0.0
    assert outcome.after.forget_accuracy == 0.0 and outcome.before.forget_accuracy is not None


def test_methods_are_tried_in_the_order_of_the_plan_and_each_once() -> None:
    escalation = {"class": ("random-label", "boundary-shrink", "reset-and-relearn", "delete")}
    outcome = served(replace(USELESS, escalation=escalation))
    assert outcome.committed
    assert (outcome.method, outcome.attempts) == ("reset-and-relearn", 5)
    assert outcome.escalated_from == ("boundary-shrink", "random-label")


def test_the_parameters_of_a_request_are_those_of_its_own_method_alone() -> None:
    request = ForgetRequest.for_class(3, method="random-label", id="c3", max_steps=1, learning_rate=1e-8)
    outcome = served(USELESS, request)
    assert (outcome.method, outcome.escalated_from) == ("reset-and-relearn", ("random-label",))
    assert outcome.committed


def test_without_an_escalation_the_request_fails_by_its_own_method() -> None:
    model = trained()
    outcome = served(replace(USELESS, escalation={}))
    assert not outcome.committed and outcome.model is model
    assert (outcome.method, outcome.escalated_from, outcome.attempts) == ("boundary-shrink", (), 2)
    assert outcome.reason is not None and "forget accuracy" in outcome.reason


def test_a_request_that_its_own_method_serves_is_not_escalated() -> None:
    plan = replace(USELESS, parameters={"boundary-shrink": {"epochs": 20, "learning_rate": 0.05}}, repair_rounds=2)
    outcome = served(plan)
    assert outcome.committed
    assert (outcome.method, outcome.escalated_from) == ("boundary-shrink", ())


def with_frozen_rows() -> nn.Module:
    """The trained model with an output layer whose rows cannot be set."""
    model = copy.deepcopy(trained())
    assert isinstance(model, nn.Sequential)
    model[-1].requires_grad_(False)
    return model


def test_a_later_method_that_does_not_suit_the_model_fails_and_an_own_one_raises() -> None:
    outcome = served(USELESS, model=with_frozen_rows())
    assert not outcome.committed
    assert (outcome.method, outcome.escalated_from) == ("reset-and-relearn", ("boundary-shrink",))
    assert outcome.reason is not None and outcome.reason.startswith("reset-and-relearn: ")
    with pytest.raises(InvalidModelError, match="reset-and-relearn"):
        served(USELESS, ForgetRequest.for_class(3, method="reset-and-relearn", id="c3"), with_frozen_rows())


def test_a_class_that_the_model_has_forgotten_by_itself_is_forgotten_all_the_same() -> None:
    """No step on samples that are never recognised changes the model, but their class has rows and features."""
    model = small_model()
    later = samples().retained.of_classes([8, 9])
    train_locally(model, later, replace(SETTINGS, local_epochs=15), torch.Generator().manual_seed(0))
    outcome = served(USELESS, model=model)
    assert outcome.before.forget_accuracy == 0.0
    assert outcome.committed


def test_methods_that_do_not_work_on_the_inputs_are_passed_over_unless_the_request_names_them() -> None:
    plan = LocalPlan(
        parameters={"instance-wise": {"adversarial": True}},
        escalation={"sample": ("boundary-shrink", "finetune"), "class": ()},
    )

    def names(request: ForgetRequest, domain: InputDomain) -> list[str]:
        return [name for name, *_ in plan.suited_to(request, domain)]

    unnamed = ForgetRequest.for_samples("0", ["1"])
    named = ForgetRequest.for_samples("0", ["1"], method="boundary-shrink")
    assert names(unnamed, PIXELS) == ["instance-wise", "boundary-shrink", "finetune"]
    assert names(unnamed, VALUES) == ["finetune"]
    assert names(named, VALUES) == ["boundary-shrink", "finetune"]
    assert names(ForgetRequest.for_class(1), VALUES) == ["boundary-shrink"], "there is no other"


@pytest.mark.parametrize(
    ("escalation", "message"),
    [({"class": ("magic",)}, "method 'magic' is unknown"), ({"sample": ("delete",)}, "'delete' does not serve sample")],
)
def test_a_plan_names_methods_to_escalate_to_that_cannot_serve(
    escalation: dict[str, tuple[str, ...]], message: str
) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        replace(USELESS, escalation=escalation)
