from __future__ import annotations

import copy
import dataclasses

import numpy
import pytest
import torch
from hand_descent import (
    CLASSES,
    PIXELS,
    Array,
    Term,
    descended,
    gradient_of,
    images_trained_on,
    known_samples,
    linear_model,
    table,
)
from numpy.typing import NDArray
from torch import Tensor, nn
from trained_digits import Digits, accuracy, state_bytes

from fed_unlearn.errors import InvalidDataError, InvalidParameterError, UnlearningDivergedError
from fed_unlearn.methods.random_label import RandomLabel
from fed_unlearn.methods.saliency import Saliency, salient_masks

SHARES = [1e-6, 0.03, 0.25, 0.5, 0.9, 1.0]


def largest(gradients: Array, share: float) -> NDArray[numpy.bool_]:
    """True at the largest share of the magnitudes and at ties with the last of them, but at no zero."""
    magnitudes = numpy.abs(gradients)
    count = max(1, round(share * magnitudes.size))
    chosen: NDArray[numpy.bool_] = magnitudes >= numpy.sort(magnitudes, axis=None)[::-1][count - 1]
    chosen &= magnitudes > 0
    return chosen


def changed(before: Tensor, after: Tensor) -> Tensor:
    """Where the bytes of two float32 tensors differ: 0 and -0 do."""
    return before.detach().view(torch.int32) != after.detach().view(torch.int32)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("kind", ["all different", "many ties and zeros", "mostly zeros"])
def test_masks_equal_those_found_by_sorting(kind: str, share: float) -> None:
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(200, generator=generator)
    if kind == "many ties and zeros":
        gradients = gradients.round()
    elif kind == "mostly zeros":
        gradients = torch.where(gradients > 1, gradients, -0.0)
    parts = [gradients[:60].view(3, 4, 5), gradients[60:67], gradients[67:].view(19, 7)]
    found = salient_masks(parts, share)
    assert [(mask.shape, mask.dtype) for mask in found] == [(part.shape, torch.bool) for part in parts]
    expected = largest(gradients.double().numpy(), share)
    numpy.testing.assert_array_equal(torch.cat([mask.flatten() for mask in found]).numpy(), expected)
    if kind == "all different":
        assert int(expected.sum()) == max(1, round(share * 200))


def test_masks_by_hand() -> None:
    gradients = [torch.tensor([[3.0, -3.0], [0.5, 2.0]]), torch.tensor([0.0, -0.1, -2.0, 0.0])]
    for share, expected in (
        (0.125, [[True, True], [False, False]]),  # one entry is wanted, and another is as large
        (0.375, [[True, True], [False, True]]),
        (0.625, [[True, True], [True, True]]),
    ):
        assert salient_masks(gradients, share)[0].tolist() == expected
    assert salient_masks(gradients, 0.375)[1].tolist() == [False, False, True, False]
    assert salient_masks(gradients, 1.0)[1].tolist() == [False, True, True, False]
    assert not any(bool(mask.any()) for mask in salient_masks([torch.zeros(3), torch.zeros(2, 2)], 1.0))


def test_masks_are_those_of_the_original_models_gradient_over_the_whole_forget_set() -> None:
    # More samples than the gradient is computed for at once, and those of the last part are of another kind.
    model = linear_model()
    forget, retain = known_samples(model, 700, seed=1), known_samples(model, 90, seed=2)
    forget = forget.relabelled(torch.where(torch.arange(700) < 512, 3, 1))
    sets = [forget, forget.subset(torch.arange(512)), forget.subset(torch.arange(512, 700)), retain]
    gradients = [gradient_of(table(model), each.images, each.labels.tolist()) for each in sets]
    expected, *others = [largest(gradient, 0.4) for gradient in (*gradients, gradients[1] + gradients[2])]
    assert all((other != expected).any() for other in others)
    batches = images_trained_on(model)
    outcome = Saliency(share=0.4, max_steps=12, learning_rate=0.01).unlearn(model, forget, retain)
    numpy.testing.assert_array_equal(table(outcome.model) != table(model), expected)
    assert torch.equal(torch.cat(batches[: -outcome.steps]), forget.images)


@pytest.mark.parametrize("bound", [0.0, 0.02])
@pytest.mark.parametrize("retained", [False, True])
@pytest.mark.parametrize("share", [0.2, 0.6])
def test_steps_inside_the_mask_equal_the_hand_computed_ones(share: float, retained: bool, bound: float) -> None:
    # The bound is on the gradient of the salient parameters.
    model = linear_model()
    forget, retain = known_samples(model, 8, seed=1), known_samples(model, 7, seed=2)
    start, batches = table(model), images_trained_on(model)
    settings = {"learning_rate": 2e-3, "momentum": 0.9}
    method = Saliency(
        share=share,
        forget_weight=0.5,
        batch_size=3,
        max_steps=30,
        max_gradient_norm=bound,
        target_accuracy=0,
        **settings,  # type: ignore[arg-type]
    )
    outcome = method.unlearn(model, forget, retain if retained else None)
    assert outcome.guard_labels is not None
    assert outcome.steps == len(batches) - 1 == 30
    terms: list[Term] = [(0.5 if retained else 1.0, forget.relabelled(outcome.guard_labels))]
    terms += [(1.0, retain)] if retained else []
    allowed = largest(gradient_of(start, forget.images, forget.labels.tolist()), share)
    expected = descended(start, batches[1:], terms, bound=bound, allowed=allowed, **settings)
    numpy.testing.assert_allclose(table(outcome.model), expected, rtol=0, atol=1e-5)
    numpy.testing.assert_array_equal(table(outcome.model) != start, allowed)


def test_all_else_keeps_its_bytes_in_a_network_with_batchnorm(digits: Digits) -> None:
    model = digits.model
    images, labels = digits.forget.batch()
    loss = nn.functional.cross_entropy(model(images), labels, reduction="sum")
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    magnitudes = torch.cat([gradient.flatten() for gradient in gradients]).abs()
    threshold = float(numpy.sort(magnitudes.numpy())[::-1][round(0.2 * len(magnitudes)) - 1])
    method = Saliency(share=0.2, max_steps=60, target_accuracy=0, learning_rate=1e-4)
    outcome = method.unlearn(digits.model, digits.forget, digits.retain)
    assert outcome.steps == 60
    moved = torch.cat(
        [changed(*pair).flatten() for pair in zip(digits.trained.parameters(), outcome.model.parameters(), strict=True)]
    )
    # Gradients summed in another order may differ in their last digits.
    assert not bool(moved[magnitudes < 0.9999 * threshold].any())
    assert bool(moved[magnitudes > 1.0001 * threshold].all())
    assert int(moved.sum()) == pytest.approx(0.2 * len(moved), abs=5)


def test_a_parameter_that_the_forget_loss_does_not_depend_on_stays_whatever_the_share() -> None:
    # The first pixel is black in the forget set alone, and its weights are negative zeros.
    model = linear_model()
    with torch.no_grad():
        model[1].weight[:, 0] = -0.0  # type: ignore[index]
    forget, retain = known_samples(model, 8, seed=1), known_samples(model, 7, seed=2)
    forget.images[:, 0, 0, 0] = 0
    forget = forget.relabelled(model(forget.images).argmax(dim=1))
    settings = {"max_steps": 30, "target_accuracy": 0.0}
    plain = RandomLabel(**settings).unlearn(model, forget, retain)  # type: ignore[arg-type]
    assert bool(changed(plain.model[1].weight, model[1].weight).all())  # type: ignore[index]
    masked = Saliency(share=1, **settings).unlearn(model, forget, retain)  # type: ignore[arg-type]
    moved = changed(masked.model[1].weight, model[1].weight)  # type: ignore[index]
    assert moved.tolist() == [[False] + [True] * (PIXELS - 1)] * CLASSES


@pytest.mark.parametrize("retained", [False, True])
def test_all_shares_of_a_model_without_zero_gradients_are_random_relabelling(retained: bool) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 5), nn.Tanh(), nn.Linear(5, CLASSES))
    forget, retain = known_samples(model, 30, seed=1), known_samples(model, 40, seed=2)
    settings = {"batch_size": 8, "max_steps": 50, "target_accuracy": 0.0, "retain_tolerance": 0.0}
    plain, masked, half = (
        method.unlearn(model, forget, retain if retained else None, generator=torch.Generator().manual_seed(7))
        for method in (RandomLabel(**settings), Saliency(share=1, **settings), Saliency(**settings))  # type: ignore[arg-type]
    )
    assert state_bytes(plain.model) == state_bytes(masked.model) != state_bytes(half.model)
    assert plain.guard_labels is not None and masked.guard_labels is not None
    assert plain.guard_labels.tolist() == masked.guard_labels.tolist()
    assert (plain.steps, plain.converged) == (masked.steps, masked.converged)
    # What finds the mask comes on top.
    assert masked.forward_passes - plain.forward_passes == masked.backward_passes - plain.backward_passes == 30


def test_the_share_is_of_the_trained_layers(digits: Digits) -> None:
    settings = {"share": 0.1, "trained_layers": 1, "max_steps": 20, "target_accuracy": 0.0}
    outcome = Saliency(**settings).unlearn(digits.model, digits.forget, digits.retain)  # type: ignore[arg-type]
    before, after = dict(digits.trained.named_parameters()), dict(outcome.model.named_parameters())
    counts = {name: int(changed(before[name], after[name]).sum()) for name in before}
    assert counts.pop("7.weight") + counts.pop("7.bias") == 49  # of 480 weights and 10 biases
    assert set(counts.values()) == {0}


def test_the_copy_and_the_given_model_train_freely_afterwards(digits: Digits) -> None:
    # Also where training breaks off.
    model = digits.model
    outcome = Saliency(share=0.1, max_steps=2, trained_layers=1).unlearn(model, digits.forget)
    with pytest.raises(UnlearningDivergedError, match="saliency: the loss is"):
        Saliency(learning_rate=1e36, max_steps=20, target_accuracy=0).unlearn(model, digits.forget)
    images, labels = digits.retain.batch()
    for kept in (model, outcome.model):
        expected = copy.deepcopy(digits.trained)
        expected.load_state_dict(kept.state_dict())
        for each in (kept, expected):
            each.zero_grad()
            nn.functional.cross_entropy(each(images), labels).backward()
        for found, wanted in zip(kept.parameters(), expected.parameters(), strict=True):
            assert found.grad is not None and wanted.grad is not None
            assert torch.equal(found.grad, wanted.grad)


@pytest.mark.parametrize("retained", [True, False])
def test_it_forgets_the_class_and_keeps_the_others(digits: Digits, retained: bool) -> None:
    before = accuracy(digits.trained, digits.test_retain)
    outcome = Saliency().unlearn(digits.model, digits.forget, digits.retain if retained else None)
    assert outcome.converged
    assert accuracy(outcome.model, digits.forget) <= 0.03
    assert accuracy(outcome.model, digits.test_forget) <= 0.05
    assert accuracy(outcome.model, digits.test_retain) >= before - 0.04


def test_parameters(digits: Digits) -> None:
    weak = Saliency(share=0.3, learning_rate=1e-3, max_steps=7)
    assert weak.stronger() == dataclasses.replace(weak, learning_rate=2e-3, max_steps=14)
    with pytest.raises(InvalidDataError, match=r"saliency: classes .* are excluded"):
        Saliency().unlearn(digits.model, digits.forget, excluded_classes=list(range(10)))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"share": 0}, "share = 0 was given; allowed is a number above 0 and at most 1"),
        ({"share": 1.01}, "share = 1.01"),
        ({"share": float("nan")}, "share = nan"),
        ({"share": True}, "share = True"),
        ({"forget_weight": -1.0}, "forget_weight = -1.0 was given; allowed is a number above 0"),
    ],
)
def test_bad_parameters_are_named(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        Saliency(**parameters)  # type: ignore[arg-type]
    assert f"saliency: {message}" in str(caught.value)
