from __future__ import annotations

import dataclasses
import math

import foolbox
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from trained_digits import FORGOTTEN, Digits, accuracy, state_bytes

from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import (
    EmptySetError,
    InvalidDataError,
    InvalidModelError,
    InvalidParameterError,
    UnlearningDivergedError,
)
from fed_unlearn.logits import predict_logits
from fed_unlearn.methods.boundary_shrink import BoundaryShrink, clarity
from fed_unlearn.methods.parts.attacks import fgsm
from fed_unlearn.methods.parts.curvature import curvature
from fed_unlearn.pass_counter import PassCounter

GOOD = {"learning_rate": 5e-3, "epochs": 20, "batch_size": 32}


@pytest.mark.parametrize("search", ["fgsm", "pgd"])
def test_labels_equal_those_of_an_independent_attack(digits: Digits, search: str) -> None:
    method = BoundaryShrink(search=search, epochs=1, learning_rate=1e-6)  # type: ignore[arg-type]
    outcome = method.unlearn(digits.model, digits.forget, excluded_classes=[8])
    attack = (
        foolbox.attacks.LinfFastGradientAttack(random_start=False)
        if search == "fgsm"
        else foolbox.attacks.LinfPGD(abs_stepsize=8 / 255, steps=5, random_start=False)
    )
    model = foolbox.PyTorchModel(digits.model, bounds=(0, 1), device="cpu")
    images, labels = digits.forget.batch()
    moved = attack.run(model, images, foolbox.criteria.Misclassification(labels), epsilon=0.1)
    ranked = digits.model(moved).argsort(dim=1, descending=True).tolist()
    expected = [next(label for label in row if label not in (FORGOTTEN, 8)) for row in ranked]
    assert outcome.guard_labels is not None
    assert outcome.guard_labels.tolist() == expected


def test_labels_are_never_the_own_class_nor_an_excluded_one(digits: Digits) -> None:
    mixed = digits.retain.subset(torch.arange(200))
    excluded = {1, 5, 9}
    outcome = BoundaryShrink(epochs=1, learning_rate=1e-6).unlearn(digits.model, mixed, excluded_classes=excluded)
    assert outcome.guard_labels is not None
    assert not (outcome.guard_labels == mixed.labels).any()
    assert not excluded & set(outcome.guard_labels.tolist())


def linear_model(weight: Tensor, bias: Tensor) -> nn.Module:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return nn.Sequential(nn.Flatten(), layer)


def test_one_step_on_a_linear_model_equals_the_hand_computed_one() -> None:
    # One pixel x = 0.5, three classes: logits w x + b. The gradient of CE with label 0 wrt x is sum_k (p_k - y_k) w_k.
    model = linear_model(torch.tensor([[2.0], [1.0], [-3.0]]), torch.tensor([0.0, 0.2, 0.9]))
    samples = ImageSet(torch.full((1, 1, 1, 1), 0.5), torch.tensor([0]))
    # logits 1.0, 0.7, -0.6: the gradient is negative (p_0 < 1, w_0 the largest), so FGSM moves x to 0.4: logits
    # 0.8, 0.6, -0.3; the nearest other class is 1. Softmax at x = 0.5:
    weights = torch.tensor([1.0, 0.7, -0.6], dtype=torch.float64).exp()
    error = weights / weights.sum() - torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    method = BoundaryShrink(epochs=1, learning_rate=0.1, bound=0.1, target_accuracy=0)
    outcome = method.unlearn(model, samples)
    layer = outcome.model[1]  # type: ignore[index]
    assert outcome.guard_labels is not None and outcome.guard_labels.tolist() == [1]
    expected_bias = torch.tensor([0.0, 0.2, 0.9], dtype=torch.float64) - 0.1 * error
    expected_weight = torch.tensor([2.0, 1.0, -3.0], dtype=torch.float64) - 0.1 * error * 0.5
    torch.testing.assert_close(layer.bias.double(), expected_bias, atol=1e-6, rtol=0)
    torch.testing.assert_close(layer.weight[:, 0].double(), expected_weight, atol=1e-6, rtol=0)


@pytest.mark.parametrize("search", ["fgsm", "pgd"])
def test_it_forgets_the_class_and_keeps_the_others(digits: Digits, search: str) -> None:
    before = accuracy(digits.trained, digits.test_retain)
    assert accuracy(digits.trained, digits.test_forget) > 0.9
    assert before > 0.95
    outcome = BoundaryShrink(search=search, **GOOD).unlearn(digits.model, digits.forget)  # type: ignore[arg-type]
    assert outcome.converged
    assert accuracy(outcome.model, digits.forget) <= 0.01
    assert accuracy(outcome.model, digits.test_forget) <= 0.05
    assert accuracy(outcome.model, digits.test_retain) >= before - 0.12


def test_it_stops_once_the_aim_is_met(digits: Digits) -> None:
    outcome = BoundaryShrink(**GOOD).unlearn(digits.model, digits.forget)  # type: ignore[arg-type]
    assert outcome.converged
    assert outcome.steps < 20 * -(-len(digits.forget) // 32)


def test_given_model_and_normalisation_statistics_stay(digits: Digits) -> None:
    model = digits.model.train()
    before = state_bytes(model)
    outcome = BoundaryShrink(**GOOD).unlearn(model, digits.forget)  # type: ignore[arg-type]
    assert state_bytes(model) == before
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training and outcome.model.training
    after = state_bytes(outcome.model)
    statistics = [name for name in before if "running" in name or "batches" in name]
    assert len(statistics) == 3
    assert all(after[name] == before[name] for name in statistics)
    assert after["0.weight"] != before["0.weight"]


def test_the_same_seed_gives_the_same_bytes(digits: Digits) -> None:
    def run(seed: int) -> dict[str, bytes]:
        generator = torch.Generator().manual_seed(seed)
        method = BoundaryShrink(epochs=2, learning_rate=1e-3, batch_size=16)
        return state_bytes(method.unlearn(digits.model, digits.forget, generator=generator).model)

    torch.manual_seed(0)
    first = run(5)
    torch.manual_seed(1)
    assert run(5) == first
    assert run(6) != first


def test_passes_equal_a_hand_count(digits: Digits) -> None:
    samples = digits.forget.subset(torch.arange(20))
    hopeless = {"epochs": 3, "learning_rate": 1e-9, "batch_size": 8, "target_accuracy": 0}
    outcome = BoundaryShrink(**hopeless).unlearn(digits.model, samples)  # type: ignore[arg-type]
    # FGSM 20 and 20, the label at the moved image 20, three epochs of 20 and 20, the closing check 20.
    assert (outcome.forward_passes, outcome.backward_passes) == (20 + 20 + 60 + 20, 20 + 60)
    assert (outcome.converged, outcome.steps) == (False, 3 * 3)
    outcome = BoundaryShrink(search="pgd", search_steps=4, **hopeless).unlearn(  # type: ignore[arg-type]
        digits.model, samples
    )
    assert (outcome.forward_passes, outcome.backward_passes) == (80 + 20 + 60 + 20, 80 + 60)


def test_bytes_and_floats_give_the_same_result(digits: Digits) -> None:
    raw = (digits.forget.images * 255).round().to(torch.uint8)
    method = BoundaryShrink(epochs=1, learning_rate=1e-3)
    from_bytes = method.unlearn(digits.model, ImageSet(raw, digits.forget.labels))
    from_floats = method.unlearn(digits.model, ImageSet(raw.float().div(255), digits.forget.labels))
    assert state_bytes(from_bytes.model) == state_bytes(from_floats.model)


def test_a_diverging_run_names_the_step_and_leaves_the_model(digits: Digits) -> None:
    model = digits.model
    before = state_bytes(model)
    with pytest.raises(UnlearningDivergedError, match=r"boundary-shrink: the loss is nan at step \d+"):
        BoundaryShrink(learning_rate=1e30, epochs=5).unlearn(model, digits.forget)
    assert state_bytes(model) == before


def test_a_model_without_trainable_parameters_is_refused(digits: Digits) -> None:
    model = digits.model.requires_grad_(False)
    with pytest.raises(InvalidModelError, match="no parameter in its last 3 layers that may be trained"):
        BoundaryShrink().unlearn(model, digits.forget)


def test_stronger_doubles_rate_and_epochs() -> None:
    weak = BoundaryShrink(epochs=3, learning_rate=1e-3, bound=0.2)
    assert weak.stronger() == dataclasses.replace(weak, epochs=6, learning_rate=2e-3, max_steps=4000)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"epochs": 0}, "epochs = 0 was given; allowed is a whole number at least 1"),
        ({"epochs": 1.5}, "epochs = 1.5"),
        ({"epochs": True}, "epochs = True"),
        ({"learning_rate": -1e-3}, "learning_rate = -0.001 was given; allowed is a number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate = nan"),
        ({"learning_rate": float("inf")}, "learning_rate = inf"),
        ({"learning_rate": "fast"}, "learning_rate = 'fast'"),
        ({"momentum": 1.0}, "momentum = 1.0 was given; allowed is a number at least 0 and below 1"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"target_accuracy": 1}, "target_accuracy = 1"),
        ({"bound": 0}, "bound = 0"),
        ({"bound": 2.0}, "bound = 2.0 was given; allowed is a number above 0 and at most 1"),
        ({"search": "cw"}, "search = 'cw' was given; allowed is one of 'fgsm', 'pgd'"),
        ({"step_size": 0}, "step_size = 0"),
        ({"search_steps": 0}, "search_steps = 0"),
    ],
)
def test_bad_parameters_are_named(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        BoundaryShrink(**parameters)  # type: ignore[arg-type]
    assert f"boundary-shrink: {message}" in str(caught.value)


def test_bad_sets_are_refused(digits: Digits) -> None:
    with pytest.raises(EmptySetError, match="boundary-shrink: the forget set has no sample"):
        BoundaryShrink().unlearn(digits.model, digits.forget.subset(torch.arange(0)))
    with pytest.raises(InvalidDataError, match=r"forget labels \[12\]"):
        relabelled = digits.forget.relabelled(torch.full_like(digits.forget.labels, 12))
        BoundaryShrink().unlearn(digits.model, relabelled)
    with pytest.raises(InvalidDataError, match=r"excluded classes \[10\]"):
        BoundaryShrink().unlearn(digits.model, digits.forget, excluded_classes=[10])
    with pytest.raises(InvalidDataError, match="no class but their own"):
        others = [label for label in range(10) if label != FORGOTTEN]
        BoundaryShrink().unlearn(digits.model, digits.forget, excluded_classes=others)


def softmax_linear(seed: int = 0) -> tuple[nn.Sequential, ImageSet, np.ndarray, np.ndarray]:
    """A linear model of 4 pixels and 3 classes, 5 images, and both as numbers of their own."""
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(4, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(3, 4, generator=generator))
        layer.bias.copy_(torch.randn(3, generator=generator))
    images = torch.rand(5, 1, 2, 2, generator=generator)
    samples = ImageSet(images, torch.tensor([0, 1, 2, 0, 1]))
    return (
        nn.Sequential(nn.Flatten(), layer),
        samples,
        layer.weight.detach().double().numpy(),
        images.view(5, 4).double().numpy(),
    )


def input_gradients(weight: np.ndarray, bias: np.ndarray, pixels: np.ndarray, labels: list[int]) -> np.ndarray:
    """Of the cross-entropy of a linear model: W^T (p - one hot)."""
    logits = pixels @ weight.T + bias
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    return (probabilities - np.eye(weight.shape[0])[labels]) @ weight


def test_curvature_is_that_of_a_linear_model_in_closed_form() -> None:
    model, samples, weight, pixels = softmax_linear()
    bias = model[1].bias.detach().double().numpy()  # type: ignore[union-attr,operator]
    labels = [1, 2, 0, 2, 0]
    here = input_gradients(weight, bias, pixels, labels)
    there = input_gradients(weight, bias, pixels + 0.9 * np.sign(here) / 2, labels)  # four signs have length 2
    passes = PassCounter()
    found = curvature(model, samples.images, torch.tensor(labels), step=0.9, create_graph=True, passes=passes)
    np.testing.assert_allclose(found.detach().numpy(), np.linalg.norm(there - here, axis=1), rtol=1e-4)
    assert (passes.forward, passes.backward) == (10, 20)


def test_the_regularizer_keeps_the_curvature(digits: Digits) -> None:
    forget = digits.forget.subset(torch.arange(40))
    targets = predict_logits(digits.trained, forget).argsort(dim=1)[:, -2]

    def change(**parameters: object) -> tuple[float, int]:
        outcome = BoundaryShrink(epochs=3, learning_rate=2e-3, target_accuracy=0, **parameters).unlearn(
            digits.model, forget
        )  # type: ignore[arg-type]
        after, before = (
            curvature(model, forget.images, targets, step=0.9, create_graph=False, passes=PassCounter())
            for model in (outcome.model.eval(), digits.trained)
        )
        return float((after - before).norm()), outcome.backward_passes

    plain, plain_passes = change()
    held, held_passes = change(regularizer="curvature", regularizer_weight=2.0)
    assert held < 0.9 * plain
    assert held_passes - plain_passes == 40 * 2 + 3 * 40 * 4


def test_weights_of_samples_by_hand() -> None:
    # Probabilities 0.7, 0.2, 0.1 with label 0: margin 0.5, weight 3 / 2. With label 1: margin -0.5, 3 * sigmoid(-5).
    logits = torch.tensor([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1]]).log()
    expected = torch.tensor([1.5, 3 / (1 + math.exp(5))])
    torch.testing.assert_close(clarity(logits, torch.tensor([0, 1])), expected)


def test_reweighting_scales_the_hand_computed_step() -> None:
    model, samples, *_ = softmax_linear()
    one = samples.subset(torch.tensor([0]))
    start = model[1].weight.detach().clone()  # type: ignore[union-attr,operator]
    settings = {"epochs": 1, "learning_rate": 0.1, "target_accuracy": 0.0, "bound": 0.01}
    plain, weighted = (
        BoundaryShrink(reweight=reweight, **settings).unlearn(model, one).model[1].weight.detach() - start  # type: ignore[arg-type,index]
        for reweight in (False, True)
    )
    moved = fgsm(model, one.images, one.labels, bound=0.01)
    logits = predict_logits(model, ImageSet(moved, one.labels))
    nearest = logits.scatter(1, one.labels[:, None], -torch.inf).argmax(dim=1)
    torch.testing.assert_close(weighted, plain * clarity(logits, nearest))
