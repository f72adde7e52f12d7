from __future__ import annotations

import math
from typing import Any

import numpy
import torch
from softmax_linear import (
    assert_parameters,
    drawn_samples,
    inputs_of,
    linear_model,
    one_hot,
    parameters_of,
    softmax,
)
from trained_digits import Digits, accuracy, state_bytes

from fed_unlearn.methods.base import Method
from fed_unlearn.methods.client_projected_ascent import ClientProjectedAscent
from fed_unlearn.methods.unlearning_cross_entropy import UnlearningCrossEntropy, unlearning_cross_entropy


def test_the_loss_is_that_of_the_paper_and_bounded() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(40, 6, generator=generator)
    labels = torch.randint(6, (40,), generator=generator)
    probabilities = softmax(logits.double().numpy())[numpy.arange(40), labels.numpy()]
    expected = float(numpy.mean(-numpy.log(1 - probabilities / 2)))
    assert math.isclose(float(unlearning_cross_entropy(logits, labels)), expected, rel_tol=1e-5)
    sure, unknown = 1000 * torch.eye(6), -1000 * torch.eye(6)
    own = torch.arange(6)
    assert math.isclose(float(unlearning_cross_entropy(sure, own)), math.log(2), rel_tol=1e-6)
    assert float(unlearning_cross_entropy(unknown, own)) == 0
    for extreme in (sure, unknown):
        extreme.requires_grad_()
        unlearning_cross_entropy(extreme, own).backward()
        assert extreme.grad is not None and bool(torch.isfinite(extreme.grad).all())


def test_one_step_on_a_linear_model_equals_the_hand_computed_one() -> None:
    model, forget = linear_model(), drawn_samples(12, seed=1)
    parameters, inputs, own = parameters_of(model), inputs_of(forget), one_hot(forget)
    probabilities = softmax(inputs @ parameters.T)
    p = (probabilities * own).sum(axis=1, keepdims=True)
    # d(-log(1 - p / 2))/dz_k = (1 / 2) / (1 - p / 2) * dp/dz_k, where dp/dz_k = p ([k own] - p_k).
    gradient = (0.5 / (1 - p / 2) * p * (own - probabilities)).T @ inputs / len(forget)
    length = float(numpy.sqrt((gradient**2).sum()))
    assert length > 0.02
    for bound in (0.0, 0.02):
        method = UnlearningCrossEntropy(
            learning_rate=0.4, max_gradient_norm=bound, max_steps=1, target_accuracy=0, momentum=0
        )
        outcome = method.unlearn(model, forget)
        assert_parameters(outcome.model, parameters - 0.4 * (bound / length if bound else 1.0) * gradient)
        assert outcome.steps == 1
        assert outcome.guard_labels is None


def test_a_model_that_meets_the_aim_stays_as_it_is(digits: Digits) -> None:
    others = digits.forget.relabelled((digits.forget.labels + 1) % 10)
    outcome = UnlearningCrossEntropy().unlearn(digits.model, others)
    assert (outcome.steps, outcome.converged) == (0, True)
    assert (outcome.forward_passes, outcome.backward_passes) == (len(others), 0)
    assert state_bytes(outcome.model) == state_bytes(digits.trained)


def test_it_ends_where_the_client_is_no_longer_recognised(digits: Digits) -> None:
    outcome = UnlearningCrossEntropy(epochs=200, momentum=0.9).unlearn(digits.model, digits.forget)
    assert outcome.converged
    assert 0 < outcome.steps < 100
    assert accuracy(digits.model, digits.forget) > 0.95
    assert accuracy(outcome.model, digits.forget) <= 0.1
    stronger = UnlearningCrossEntropy().stronger()
    assert (stronger.learning_rate, stronger.epochs, stronger.max_steps) == (0.2, 2, 4000)


class EndlessDescent(UnlearningCrossEntropy):
    def _aim_met(self, *_: object) -> bool:
        return False


class EndlessAscent(ClientProjectedAscent):
    def _aim_met(self, *_: object) -> bool:
        return False


def test_descent_comes_to_rest_where_ascent_does_not(digits: Digits) -> None:
    settings: dict[str, Any] = {
        "epochs": 200,
        "momentum": 0.9,
        "learning_rate": 0.1,
        "max_gradient_norm": 1.0,
        "max_steps": 200,
    }

    def distance(method: Method) -> float:
        outcome = method.unlearn(digits.model, digits.forget)
        assert outcome.steps == 200
        moved = zip(outcome.model.parameters(), digits.trained.parameters(), strict=True)
        return float(sum((new - old).detach().double().square().sum() for new, old in moved)) ** 0.5

    assert distance(EndlessDescent(**settings)) < 0.1 * distance(EndlessAscent(**settings, radius=1e6))
