from __future__ import annotations

import copy
import math

import numpy
import pytest
import torch
from hand_descent import Array, gradient_of, known_samples, linear_model, table
from torch import nn
from trained_digits import Digits, accuracy, state_bytes

from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.methods import create
from fed_unlearn.methods.client_projected_ascent import ClientProjectedAscent, _Ball


def ascended(
    parameters: Array, samples: ImageSet, *, steps: int, learning_rate: float, bound: float, radius: float
) -> list[Array]:
    """Parameters after every step of projected ascent with the whole set in each, by NumPy arithmetic."""
    centre, found = parameters, [parameters]
    for _ in range(steps):
        gradient = gradient_of(parameters, samples.images, samples.labels.tolist())
        gradient *= min(1, bound / numpy.linalg.norm(gradient))
        parameters = parameters + learning_rate * gradient
        distance = numpy.linalg.norm(parameters - centre)
        if distance > radius:
            parameters = centre + (parameters - centre) * radius / distance
        found.append(parameters)
    return found


@pytest.mark.parametrize("radius", [0.05, 0.31, 100.0])
def test_steps_on_a_linear_model_equal_those_done_by_hand(radius: float) -> None:
    model = linear_model()
    samples = known_samples(model, 7, seed=1)
    method = ClientProjectedAscent(
        radius=radius, learning_rate=0.5, momentum=0, max_gradient_norm=0.3, epochs=4, target_accuracy=0
    )
    outcome = method.unlearn(model, samples)
    path = ascended(table(model), samples, steps=4, learning_rate=0.5, bound=0.3, radius=radius)
    assert outcome.steps == 4
    numpy.testing.assert_allclose(table(outcome.model), path[-1], rtol=0, atol=2e-6)
    if radius < 0.5:
        numpy.testing.assert_allclose(numpy.linalg.norm(path[-1] - path[0]), radius)


def flat(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().double().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_no_step_leaves_the_ball(digits: Digits, momentum: float, monkeypatch: pytest.MonkeyPatch) -> None:
    model, distances = digits.model, list[float]()
    centre = flat(model)
    project = _Ball.__call__

    def watched(ball: _Ball, optimizer: torch.optim.Optimizer, arguments: object, keywords: object) -> None:
        project(ball, optimizer, arguments, keywords)
        now = torch.cat([p.detach().double().flatten() for group in optimizer.param_groups for p in group["params"]])
        distances.append(float((now - centre).norm()))

    monkeypatch.setattr(_Ball, "__call__", watched)
    method = ClientProjectedAscent(radius=0.4, learning_rate=0.05, momentum=momentum, target_accuracy=0.0)
    outcome = method.unlearn(model, digits.forget)
    assert len(distances) == outcome.steps
    assert max(distances) <= 0.4 * (1 + 1e-6)
    assert max(distances) >= 0.4 * (1 - 1e-6)
    assert float((flat(outcome.model) - centre).norm()) == distances[-1]


def test_the_radius_is_a_share_of_the_distance_to_models_that_know_nothing(digits: Digits) -> None:
    model, distances = digits.model, []
    with torch.random.fork_rng(devices=[]):
        for seed in range(30):
            torch.manual_seed(seed)
            fresh = copy.deepcopy(model)
            for module in fresh.modules():
                if hasattr(module, "reset_parameters"):
                    module.reset_parameters()
            distances.append(float((flat(fresh) - flat(model)).norm()))
    expected = 0.02 * float(numpy.mean(distances))
    outcome = ClientProjectedAscent(radius_fraction=0.02, learning_rate=0.1, target_accuracy=0.0).unlearn(
        model, digits.forget
    )
    moved = float((flat(outcome.model) - flat(model)).norm())
    assert math.isclose(moved, expected, rel_tol=0.02)


def test_it_stops_where_the_client_is_no_longer_recognised(digits: Digits) -> None:
    outcome = ClientProjectedAscent(learning_rate=0.02, max_steps=1000, epochs=200).unlearn(digits.model, digits.forget)
    assert outcome.converged
    assert outcome.steps < 200
    assert accuracy(digits.model, digits.forget) > 0.95
    assert accuracy(outcome.model, digits.forget) <= 0.5
    assert outcome.guard_labels is None


def test_the_smaller_the_ball_the_less_is_lost_elsewhere(digits: Digits) -> None:
    method = ClientProjectedAscent(learning_rate=0.05, target_accuracy=0.0, epochs=30)
    kept = [
        accuracy(
            create("projected-ascent", **{**vars(method), "radius": radius}).unlearn(digits.model, digits.forget).model,
            digits.test_retain,
        )
        for radius in (0.2, 1.0, 5.0)
    ]
    assert kept[0] > kept[1] > kept[2]
    assert kept[0] > 0.9


def test_a_step_too_long_for_any_number_is_refused_and_the_settings_are_checked(digits: Digits) -> None:
    with pytest.raises(InvalidParameterError, match="projected-ascent: radius = -1"):
        ClientProjectedAscent(radius=-1)
    with pytest.raises(InvalidParameterError, match="projected-ascent: random_models = 0"):
        ClientProjectedAscent(random_models=0)
    stronger = ClientProjectedAscent().stronger()
    assert (stronger.radius, stronger.radius_fraction, stronger.epochs) == (0, pytest.approx(0.3), 40)
    again = ClientProjectedAscent(max_steps=2).unlearn(digits.model, digits.forget)
    assert state_bytes(again.model) == state_bytes(
        ClientProjectedAscent(max_steps=2).unlearn(digits.model, digits.forget).model
    )
