from __future__ import annotations

import dataclasses

import numpy
import pytest
import torch
from softmax_linear import (
    Array,
    assert_parameters,
    drawn_samples,
    gaps,
    inputs_of,
    linear_model,
    one_hot,
    parameters_of,
    softmax,
)
from torch import nn
from trained_digits import Digits, accuracy, state_bytes

from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import InvalidDataError, InvalidParameterError
from fed_unlearn.logits import predict_logits
from fed_unlearn.methods.negative_gradient_plus import NegativeGradientPlus
from fed_unlearn.methods.parts.batches import cycle


def retain_gradient(parameters: Array, retain: ImageSet) -> Array:
    """Of the mean cross-entropy: probabilities minus labels, times the inputs."""
    inputs = inputs_of(retain)
    errors: Array = (softmax(inputs @ parameters.T) - one_hot(retain)).T @ inputs
    return errors / len(retain)


@pytest.mark.parametrize("excluded", [(), (1,)])
@pytest.mark.parametrize("bound", [0.0, 0.2])
def test_one_step_on_a_linear_model_equals_the_hand_computed_one(excluded: tuple[int, ...], bound: float) -> None:
    model, forget, retain = linear_model(), drawn_samples(12, seed=1), drawn_samples(9, seed=2)
    parameters, inputs, forbidden = parameters_of(model), inputs_of(forget), one_hot(forget, excluded)
    logits = inputs @ parameters.T
    recognised = gaps(logits, forbidden) < 0.53
    assert recognised.any() and not recognised.all()
    # With P the probability of the forbidden classes: d/dz_k of log((1 - P) / P) is -dP/dz_k / (P (1 - P)), where
    # dP/dz_k = p_k ([k forbidden] - P).
    probabilities = softmax(logits)
    own = (probabilities * forbidden).sum(axis=1, keepdims=True)
    odds = -probabilities * (forbidden - own) / (own * (1 - own)) * recognised[:, None]
    gradient = 0.7 * retain_gradient(parameters, retain) - 0.3 * odds.T @ inputs / len(forget)
    length = float(numpy.sqrt((gradient**2).sum()))
    assert length > 0.2
    method = NegativeGradientPlus(alpha=0.7, margin=0.53, learning_rate=0.1, max_gradient_norm=bound, max_steps=1)
    outcome = method.unlearn(model, forget, retain, excluded_classes=excluded)
    assert_parameters(outcome.model, parameters - 0.1 * (bound / length if bound else 1.0) * gradient)
    assert outcome.guard_labels is None


def test_a_sample_beyond_the_margin_adds_nothing_but_counts_for_the_mean() -> None:
    # The only pixel that is set picks a column of the weights: logits (0, 3, 1, 0) for the first sample, which is of
    # class 0 and led by class 1, and (1, 0, 0, 0.5) for the second, of class 0 too.
    model, retain = linear_model(), drawn_samples(5, seed=2)
    with torch.no_grad():
        model[1].weight[:, 0] = torch.tensor([0.0, 3.0, 1.0, 0.0])  # type: ignore[index]
        model[1].weight[:, 1] = torch.tensor([1.0, 0.0, 0.0, 0.5])  # type: ignore[index]
        model[1].bias.zero_()  # type: ignore[index]
    forget = ImageSet(torch.eye(6)[:2].view(2, 1, 2, 3), torch.tensor([0, 0]))
    parameters, method = parameters_of(model), NegativeGradientPlus(learning_rate=0.1, max_steps=1, max_gradient_norm=0)
    kept = parameters - 0.1 * 0.9 * retain_gradient(parameters, retain)

    def moved(samples: ImageSet, excluded: tuple[int, ...] = ()) -> Array:
        return parameters_of(method.unlearn(model, samples, retain, excluded_classes=excluded).model) - kept

    numpy.testing.assert_allclose(moved(forget.subset(torch.tensor([0]))), 0, atol=1e-6)
    alone = moved(forget.subset(torch.tensor([1])))
    assert alone[0, 1] < -1e-3
    numpy.testing.assert_allclose(moved(forget), alone / 2, atol=1e-6)
    # Where class 1 is excluded, it is no class to be called: neither of its logits may lead.
    pushed = moved(forget.subset(torch.tensor([0])), excluded=(1,))
    assert pushed[1, 0] < -1e-3 < 1e-3 < pushed[2, 0]


class Endless(NegativeGradientPlus):
    """Takes all of its steps: whatever is kept is kept by the bound on each sample."""

    def _aim_met(self, *_: object) -> bool:
        return False


def test_ascent_without_a_bound_destroys_what_the_method_keeps(digits: Digits) -> None:
    before = accuracy(digits.trained, digits.test_retain)
    unbounded, generator = digits.model, torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(unbounded.parameters(), lr=1e-2, momentum=0.9)
    batches = zip(cycle(digits.forget, 64, generator), cycle(digits.retain, 64, generator), range(100), strict=False)
    for (_, images, labels), (_, kept_images, kept_labels), _ in batches:
        optimizer.zero_grad()
        kept = nn.functional.cross_entropy(unbounded(kept_images), kept_labels)
        (0.5 * kept - 0.5 * nn.functional.cross_entropy(unbounded(images), labels)).backward()
        nn.utils.clip_grad_norm_(unbounded.parameters(), 1.0)
        optimizer.step()
    assert accuracy(unbounded, digits.forget) == 0
    assert accuracy(unbounded, digits.test_retain) < 0.5
    method = Endless(alpha=0.5, learning_rate=1e-2, momentum=0.9, max_gradient_norm=1.0, max_steps=100)
    outcome = method.unlearn(digits.model, digits.forget, digits.retain)
    assert outcome.steps == 100
    assert accuracy(outcome.model, digits.forget) <= 0.01
    assert accuracy(outcome.model, digits.test_forget) <= 0.1
    assert accuracy(outcome.model, digits.test_retain) >= before - 0.02


def test_a_sample_that_the_model_is_sure_of_is_forgotten_where_cross_entropy_has_no_gradient() -> None:
    # One-hot images: the columns of the weights are the logits. The forget sample's own class leads by 40.
    weight = torch.tensor([[40.0, 0.0], [0.0, 4.0], [0.0, 0.0]])
    layer = nn.Linear(2, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(weight)
    model = nn.Sequential(nn.Flatten(), layer)
    images = torch.eye(2).view(2, 1, 1, 2)
    forget, retain = (ImageSet(images[index : index + 1], torch.tensor([index])) for index in (0, 1))
    ascended = weight.clone().requires_grad_()
    for _ in range(100):
        loss = 0.5 * nn.functional.cross_entropy(forget.images.flatten(1) @ ascended.T, forget.labels)
        (gradient,) = torch.autograd.grad(loss, ascended)
        ascended.data += 1.0 * gradient
    torch.testing.assert_close(ascended.detach(), weight, rtol=0, atol=1e-6)
    method = NegativeGradientPlus(alpha=0.5, learning_rate=1.0, momentum=0, max_gradient_norm=0, max_steps=100)
    outcome = method.unlearn(model, forget, retain)
    assert outcome.converged
    assert int(predict_logits(outcome.model, forget).argmax()) != 0
    assert int(predict_logits(outcome.model, retain).argmax()) == 1


def test_passes_equal_a_hand_count(digits: Digits) -> None:
    forget, retain = (
        samples.subset(torch.arange(count)) for samples, count in ((digits.forget, 20), (digits.retain, 30))
    )
    method = NegativeGradientPlus(
        learning_rate=1e-9, batch_size=8, max_steps=5, target_accuracy=0, retain_tolerance=1.0
    )
    outcome = method.unlearn(digits.model, forget, retain)
    # What the given model has right of 30 retained samples, five batches 8 8 4 8 8 and 8 8 8 6 8, the closing check 20.
    assert (outcome.forward_passes, outcome.backward_passes) == (30 + 36 + 38 + 20, 36 + 38)
    assert (outcome.converged, outcome.steps) == (False, 5)


def test_the_same_seed_gives_the_same_bytes(digits: Digits) -> None:
    def run(seed: int) -> dict[str, bytes]:
        generator = torch.Generator().manual_seed(seed)
        method = NegativeGradientPlus(max_steps=4, batch_size=16)
        return state_bytes(method.unlearn(digits.model, digits.forget, digits.retain, generator=generator).model)

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_a_forget_set_with_no_class_left_is_refused() -> None:
    model, forget, retain = linear_model(), drawn_samples(8, seed=1), drawn_samples(5, seed=2)
    with pytest.raises(InvalidDataError, match=r"negative-gradient\+: classes \[0, 1, 2\] of 4 are excluded"):
        NegativeGradientPlus().unlearn(model, forget, retain, excluded_classes=[0, 1, 2])


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"alpha": 0}, "alpha = 0 was given; allowed is a number above 0 and below 1"),
        ({"alpha": 1.0}, "alpha = 1.0 was given; allowed is a number above 0 and below 1"),
        ({"margin": -0.1}, "margin = -0.1 was given; allowed is a number at least 0"),
        ({"margin": "1"}, "margin = '1' was given; allowed is a number at least 0"),
        ({"learning_rate": 0.0}, "learning_rate = 0.0 was given; allowed is a number above 0"),
    ],
)
def test_bad_parameters_are_refused(parameters: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        NegativeGradientPlus(**parameters)  # type: ignore[arg-type]
    assert str(caught.value) == f"negative-gradient+: {said}"


def test_stronger_means_twice_the_learning_rate_and_twice_the_steps() -> None:
    weak = NegativeGradientPlus(alpha=0.8, margin=2.0, learning_rate=1e-3, max_steps=7)
    assert weak.stronger() == dataclasses.replace(weak, learning_rate=2e-3, max_steps=14)
