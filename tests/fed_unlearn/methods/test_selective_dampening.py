from __future__ import annotations

import dataclasses

import numpy
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from trained_digits import Digits, accuracy, state_bytes

from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import InvalidModelError, InvalidParameterError, UnlearningDivergedError
from fed_unlearn.methods.parts.sample_gradients import fisher_diagonal
from fed_unlearn.methods.selective_dampening import SelectiveDampening
from fed_unlearn.pass_counter import PassCounter

Array = NDArray[numpy.float64]
PIXELS, CLASSES = 6, 4


def linear_model() -> nn.Module:
    layer = nn.Linear(PIXELS, CLASSES)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(CLASSES, PIXELS, generator=generator))
        layer.bias.copy_(torch.randn(CLASSES, generator=generator))
    return nn.Sequential(nn.Flatten(), layer)


def drawn_samples(count: int, seed: int) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 1, 2, 3, generator=generator)
    return ImageSet(images, torch.randint(CLASSES, (count,), generator=generator))


def closed_form(model: nn.Module, samples: ImageSet) -> tuple[Array, Array]:
    """Fisher diagonal of a softmax-linear model: the mean over samples of ((p_k - [y = k]) x_j)^2, and of its bias."""
    weight, bias = (parameter.detach().double().numpy() for parameter in model[1].parameters())  # type: ignore[index]
    images = samples.images.double().flatten(1).numpy()
    logits = images @ weight.T + bias
    probabilities = numpy.exp(logits) / numpy.exp(logits).sum(axis=1, keepdims=True)
    errors = probabilities - numpy.eye(CLASSES)[samples.labels.numpy()]
    return ((errors[:, :, None] * images[:, None, :]) ** 2).mean(axis=0), (errors**2).mean(axis=0)


def dampened_by_hand(
    model: nn.Module, forget: ImageSet, retain: ImageSet, alpha: float, dampening: float
) -> tuple[Array, Array]:
    found = []
    share = len(forget) / (len(forget) + len(retain))
    importances = zip(closed_form(model, forget), closed_form(model, retain), strict=True)
    for parameter, (of_forget, of_retain) in zip(model[1].parameters(), importances, strict=True):  # type: ignore[index]
        overall = share * of_forget + (1 - share) * of_retain
        factors = numpy.where(of_forget > alpha * overall, numpy.minimum(dampening * overall / of_forget, 1), 1)
        found.append(parameter.detach().double().numpy() * factors)
    weight, bias = found
    return weight, bias


def assert_equal(model: nn.Module, expected: tuple[Array, Array]) -> None:
    for parameter, values in zip(model[1].parameters(), expected, strict=True):  # type: ignore[index]
        torch.testing.assert_close(parameter.detach().double(), torch.from_numpy(values), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("count", [1, 64, 150])
def test_importance_equals_the_closed_form_of_a_softmax_linear_model(count: int) -> None:
    model, samples, passes = linear_model(), drawn_samples(count, seed=1), PassCounter()
    found = fisher_diagonal(model, samples, passes)
    for values, expected in zip(found.values(), closed_form(model, samples), strict=True):
        torch.testing.assert_close(values.double(), torch.from_numpy(expected), rtol=1e-4, atol=1e-8)
    assert (passes.forward, passes.backward) == (count, count)


def test_importance_equals_a_loop_over_samples_on_a_network_with_batchnorm(digits: Digits) -> None:
    samples = digits.forget.subset(torch.arange(70))
    model = digits.model
    expected = [torch.zeros_like(parameter) for parameter in model.parameters()]
    for index in range(70):
        images, labels = samples.batch(torch.tensor([index]))
        loss = nn.functional.cross_entropy(model(images), labels)
        for total, gradient in zip(expected, torch.autograd.grad(loss, list(model.parameters())), strict=True):
            total += gradient**2 / 70
    found = fisher_diagonal(model, samples, PassCounter())
    assert list(found) == [name for name, _ in model.named_parameters()]
    for values, total in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(values, total, rtol=1e-3, atol=1e-6 * float(total.max()))


@pytest.mark.parametrize(("alpha", "dampening"), [(1.2, 1.0), (1.2, 0.3), (0.5, 1.0)])
def test_dampened_parameters_equal_those_computed_by_hand(alpha: float, dampening: float) -> None:
    model, forget, retain = linear_model(), drawn_samples(3, seed=2), drawn_samples(9, seed=3)
    expected = dampened_by_hand(model, forget, retain, alpha, dampening)
    before = model[1].weight.detach().double().numpy()  # type: ignore[index]
    changed = ~numpy.isclose(expected[0], before)
    assert changed.any() and not changed.all()
    outcome = SelectiveDampening(alpha=alpha, dampening=dampening).unlearn(model, forget, retain)
    assert_equal(outcome.model, expected)
    assert outcome.steps == 1
    assert outcome.guard_labels is None


def test_importance_of_all_data_is_weighted_by_the_sizes_of_the_sets_and_not_of_the_draws() -> None:
    # All samples of a set are alike, so that one of them tells what the whole set would.
    model = linear_model()
    forget, retain = (
        ImageSet(one.images.expand(count, -1, -1, -1), one.labels.expand(count))
        for one, count in ((drawn_samples(1, seed=2), 5), (drawn_samples(1, seed=3), 45))
    )
    outcome = SelectiveDampening(alpha=2.0, most_samples=1).unlearn(model, forget, retain)
    assert_equal(outcome.model, dampened_by_hand(model, forget, retain, 2.0, 1.0))
    assert state_bytes(outcome.model) != state_bytes(model)
    # One sample of each set for the importances, and the forget set to see whether the aim is met.
    assert (outcome.forward_passes, outcome.backward_passes) == (1 + 1 + 5, 2)


def test_an_alpha_that_no_importance_reaches_changes_nothing(digits: Digits) -> None:
    # The forget set is 1 / 10 of the data, so that its importance is at most ten times that of all.
    retain = digits.retain.subset(torch.arange(9 * 50))
    outcome = SelectiveDampening(alpha=10.01).unlearn(digits.model, digits.forget.subset(torch.arange(50)), retain)
    assert state_bytes(outcome.model) == state_bytes(digits.trained)
    assert (outcome.steps, outcome.converged) == (0, False)


def test_it_forgets_the_class_and_keeps_most_of_the_others(digits: Digits) -> None:
    before = accuracy(digits.trained, digits.test_retain)
    outcome = SelectiveDampening(alpha=2.0, dampening=0.3).unlearn(digits.model, digits.forget, digits.retain)
    after = accuracy(outcome.model, digits.forget)
    assert after <= 0.05
    assert outcome.converged == (after <= 0.01)
    assert accuracy(outcome.model, digits.test_retain) >= before - 0.1


def test_passes_equal_a_hand_count(digits: Digits) -> None:
    outcome = SelectiveDampening(most_samples=20).unlearn(digits.model, digits.forget, digits.retain)
    assert (outcome.forward_passes, outcome.backward_passes) == (20 + 20 + len(digits.forget), 40)


def test_the_draw_is_that_of_the_generator(digits: Digits) -> None:
    def run(seed: int) -> dict[str, bytes]:
        generator = torch.Generator().manual_seed(seed)
        method = SelectiveDampening(most_samples=20)
        return state_bytes(method.unlearn(digits.model, digits.forget, digits.retain, generator=generator).model)

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_frozen_parameters_stay_and_a_model_of_nothing_else_is_refused(digits: Digits) -> None:
    model = digits.model
    model[-1].requires_grad_(False)  # type: ignore[index]
    after = state_bytes(SelectiveDampening(alpha=1.0).unlearn(model, digits.forget, digits.retain).model)
    before = state_bytes(model)
    assert after["7.weight"] == before["7.weight"]
    assert after["5.weight"] != before["5.weight"]
    with pytest.raises(InvalidModelError, match="selective-dampening: the model has no parameter that may be trained"):
        SelectiveDampening().unlearn(model.requires_grad_(False), digits.forget, digits.retain)


def test_gradients_that_are_not_finite_are_refused_in_words(digits: Digits) -> None:
    model = digits.model
    with torch.no_grad():
        model[-1].bias[2] = torch.nan  # type: ignore[index]
    with pytest.raises(
        UnlearningDivergedError, match=r"selective-dampening: the gradients at step 1 are not all finite"
    ):
        SelectiveDampening().unlearn(model, digits.forget, digits.retain)


def test_parameters() -> None:
    weak = SelectiveDampening(alpha=6.0)
    assert weak.stronger() == dataclasses.replace(weak, alpha=4.0, dampening=1 / 3)
    with pytest.raises(
        InvalidParameterError, match=r"selective-dampening: alpha = 0 was given; allowed is a number above 0"
    ):
        SelectiveDampening(alpha=0)
    with pytest.raises(InvalidParameterError, match=r"selective-dampening: most_samples = 0 was given"):
        SelectiveDampening(most_samples=0)
