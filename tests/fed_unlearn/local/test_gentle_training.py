"""Repair whose learning rate does not suit the model is undone and made again in smaller steps."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from federation import SETTINGS, digits_of, small_model
from torch import nn

from fed_unlearn.gate import Gate
from fed_unlearn.local import LocalPlan, LocalSamples, LocalUnlearning
from fed_unlearn.local.gentle_training import MOST_MEASURED, MOST_TRIES, SMALLER, train_gently
from fed_unlearn.logits import predict_logits
from fed_unlearn.pass_counter import PassCounter
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.training import TrainingSettings, train_locally

TRAIN = digits_of(0, clients=1, size=500).train
TOO_HIGH = replace(SETTINGS, learning_rate=20.0)


def trained() -> nn.Module:
    model = small_model()
    train_locally(model, TRAIN, replace(SETTINGS, local_epochs=15), torch.Generator().manual_seed(0))
    return model


def right(model: nn.Module) -> float:
    return float((predict_logits(model, TRAIN).argmax(1) == TRAIN.labels).double().mean())


def gently(model: nn.Module, settings: TrainingSettings, tried: list[float], passes: PassCounter) -> TrainingSettings:
    def train(settings: TrainingSettings) -> None:
        tried.append(settings.learning_rate)
        train_locally(model, TRAIN, settings, torch.Generator().manual_seed(1))

    generator = torch.Generator().manual_seed(0)
    return train_gently(model, settings, train, TRAIN, generator=generator, passes=passes)


def test_a_rate_that_suits_is_used_once_and_the_weights_are_those_of_plain_training() -> None:
    model, plain, tried, passes = trained(), trained(), list[float](), PassCounter()
    assert gently(model, SETTINGS, tried, passes) == SETTINGS
    train_locally(plain, TRAIN, SETTINGS, torch.Generator().manual_seed(1))
    assert tried == [SETTINGS.learning_rate]
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in model.state_dict().items())
    assert (passes.forward, passes.backward) == (2 * min(len(TRAIN), MOST_MEASURED), 0)


def test_a_rate_that_is_too_high_is_made_smaller_until_nothing_is_lost() -> None:
    model, plain, tried = trained(), trained(), list[float]()
    known = right(model)
    train_locally(plain, TRAIN, TOO_HIGH, torch.Generator().manual_seed(1))
    assert right(plain) < known - 0.1, "the rate is too high indeed"
    kept = gently(model, TOO_HIGH, tried, PassCounter())
    assert right(model) >= known - 0.02
    assert 1 < len(tried) <= MOST_TRIES
    assert tried == pytest.approx([20.0 * SMALLER**number for number in range(len(tried))])
    assert kept.learning_rate == tried[-1], "the next round begins where this one succeeded"


def test_where_every_try_costs_too_much_the_model_is_as_before() -> None:
    model, tried = trained(), list[float]()
    before = copy.deepcopy(model.state_dict())
    gently(model, replace(SETTINGS, learning_rate=1e7), tried, PassCounter())
    assert len(tried) == MOST_TRIES
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_class_is_forgotten_though_the_plan_repairs_in_steps_that_are_too_large() -> None:
    forget = TRAIN.of_classes([3])
    none = TRAIN.without(TRAIN.ids)
    samples = LocalSamples(forget=forget, retained=TRAIN.without(forget.ids), validation=none)
    plan = LocalPlan(repair=TOO_HIGH, escalation={})
    outcome = LocalUnlearning(plan, Gate(max_attempts=1)).serve(trained(), ForgetRequest.for_class(3, id="3"), samples)
    assert outcome.committed and outcome.after.forget_accuracy == 0.0
    assert outcome.before.retain_accuracy is not None and outcome.after.retain_accuracy is not None
    assert outcome.after.retain_accuracy >= outcome.before.retain_accuracy - 0.02
