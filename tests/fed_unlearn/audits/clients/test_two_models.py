"""What an observer of both models learns, beside gradients by hand and scikit-learn's AUC."""

from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import nn

from fed_unlearn.audits.base import Measured
from fed_unlearn.audits.battery import central_observation, run_audits
from fed_unlearn.audits.clients.gradients import loss_gradient
from fed_unlearn.audits.clients.parameter_difference import ParameterDifference
from fed_unlearn.audits.readings import Readings, RequestData
from fed_unlearn.data.tensors import TensorSet
from fed_unlearn.seeding import isolated_random

CLASSES, FEATURES = 3, 5


def rows(count: int, seed: int, shift: float = 0.0) -> TensorSet:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    return TensorSet(torch.randn(count, FEATURES, generator=generator) + shift * labels[:, None], labels)


def linear(*sizes: int) -> nn.Sequential:
    """Linear layers of these sizes, always the same."""
    sizes = sizes or (FEATURES, CLASSES)
    with isolated_random(0):
        return nn.Sequential(*[nn.Linear(first, second) for first, second in pairwise(sizes)])


def gradient_by_hand(model: nn.Sequential, samples: TensorSet) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of the weight, ``sum (softmax - one-hot) x``, and of the bias, ``sum (softmax - one-hot)``."""
    weight, bias = (value.detach().double().numpy() for value in model.parameters())
    inputs, labels = samples.inputs.double().numpy(), samples.labels.numpy()
    logits = inputs @ weight.T + bias
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    residual = shares - np.eye(CLASSES)[labels]
    return residual.T @ inputs, residual.sum(0)


def data_of(forget: TensorSet, unseen: TensorSet) -> RequestData:
    none = forget.subset(torch.empty(0, dtype=torch.int64))
    parts = {"forget": forget, "retain": unseen, "test_forget": none, "test_retain": unseen}
    return RequestData(parts=parts, classes=frozenset(), class_count=CLASSES)  # type: ignore[arg-type]


def figures_of(before: nn.Module, after: nn.Module, data: RequestData, audit: str) -> dict[str, Measured]:
    seen = central_observation(Readings(after, data), "client", original=Readings(before, data), seed=4)
    run = run_audits(seen, [audit])[audit]
    assert run.error is None, run.error
    return dict(run.figures)


def changed(model: nn.Sequential, seed: int = 1, size: float = 0.1) -> nn.Sequential:
    after, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in after.parameters():
            value += size * torch.randn(value.shape, generator=generator)
    return after


def test_gradients_are_those_by_hand() -> None:
    model, samples = linear(), rows(17, 0)
    found = loss_gradient(model, samples)
    for part, expected in zip(found.values(), gradient_by_hand(model, samples), strict=True):
        assert np.allclose(part.numpy(), expected, atol=1e-5)
    assert all(value.grad is None for value in model.parameters())


def test_parameters_that_require_no_gradient_have_one() -> None:
    model, samples = linear(), rows(17, 0)
    expected = loss_gradient(model, samples)
    model.requires_grad_(False)
    found = loss_gradient(model, samples)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not any(value.requires_grad for value in model.parameters())


def test_change_and_cosine_are_those_by_hand() -> None:
    """So few samples that one group is one sample, and all of them are compared."""
    before = linear()
    after = changed(before)
    forget = rows(12, 0)
    unseen = TensorSet(rows(12, 1).inputs, forget.labels)
    found = figures_of(before, after, data_of(forget, unseen), "parameter_difference")
    old, new = ([value.detach().double().numpy() for value in model.parameters()] for model in (before, after))
    change = np.concatenate([(there - here).ravel() for here, there in zip(old, new, strict=True)])
    size = float(np.linalg.norm(np.concatenate([value.ravel() for value in old])))
    assert found["parameter_change"].value == pytest.approx(np.linalg.norm(change) / size, abs=1e-6)

    def cosine(samples: TensorSet) -> float:
        gradient = np.concatenate([part.ravel() for part in gradient_by_hand(before, samples)])
        return float(gradient @ change / np.linalg.norm(gradient) / np.linalg.norm(change))

    assert found["difference_cosine"].value == pytest.approx(cosine(forget), abs=1e-5)
    sides = [[cosine(side.subset(torch.tensor([index]))) for index in range(12)] for side in (forget, unseen)]
    expected = roc_auc_score([1] * 12 + [0] * 12, np.concatenate(sides))
    assert found["difference_auc"].value == pytest.approx(expected, abs=1e-9)
    interval = found["difference_auc"].interval
    assert interval is not None and interval[0] < expected < interval[1]


def test_layers_are_counted_in_thirds() -> None:
    model = linear(*[FEATURES] * 6, CLASSES)
    after = copy.deepcopy(model)
    with torch.no_grad():
        for value in after[2].parameters():
            value *= 3
    found = figures_of(model, after, data_of(rows(9, 0), rows(9, 1)), "parameter_difference")
    norms = [float(torch.cat([value.detach().flatten() for value in layer.parameters()]).norm()) for layer in model]
    expected = 2 * norms[2] / (norms[2] ** 2 + norms[3] ** 2) ** 0.5
    assert found["parameter_change_middle"].value == pytest.approx(expected, abs=1e-5)
    assert found["parameter_change_first"].value == found["parameter_change_last"].value == 0
    one = figures_of(linear(), changed(linear()), data_of(rows(9, 0), rows(9, 1)), "parameter_difference")
    assert set(one) == {"parameter_change", "parameter_change_last", "difference_cosine", "difference_auc"}


def test_a_step_up_the_loss_points_at_the_forgotten_samples() -> None:
    """The client's samples are unlike the unseen ones of their classes, and their loss is raised alone."""
    before, forget, unseen = linear(), rows(200, 0, shift=1.0), rows(200, 1, shift=-1.0)
    after = copy.deepcopy(before)
    gradient = loss_gradient(before, forget)
    with torch.no_grad():
        for name, value in after.named_parameters():
            value += 1e-3 * gradient[name].float()
    found = figures_of(before, after, data_of(forget, unseen), "parameter_difference")
    assert found["difference_cosine"].value == pytest.approx(1.0, abs=0.02)
    auc = found["difference_auc"]
    assert auc.value is not None and auc.value > 0.85 and auc.interval is not None and auc.interval[0] > 0.7
    untouched = figures_of(before, before, data_of(forget, unseen), "parameter_difference")
    assert untouched["parameter_change"].value == 0 and untouched["difference_auc"].value == 0.5


def test_raised_losses_are_seen_where_samples_have_features_of_their_own() -> None:
    """In 400 random features each of 60 samples can be unlearned by itself; unseen ones stay as they were."""
    generator = torch.Generator().manual_seed(0)
    forget, unseen = (
        TensorSet(torch.randn(60, 400, generator=generator), torch.arange(60) % CLASSES) for _ in range(2)
    )
    before = linear(400, CLASSES)
    after = copy.deepcopy(before)
    gradient = loss_gradient(before, forget)
    with torch.no_grad():
        for name, value in after.named_parameters():
            value += 0.01 * gradient[name].float()
    for audit, figure in (("loss_rise_auc", "loss_rise_auc"), ("parameter_difference", "difference_auc")):
        found = figures_of(before, after, data_of(forget, unseen), audit)[figure]
        assert found.value is not None and found.value > 0.9
        assert found.interval is not None and found.interval[0] > 0.8


def test_the_rise_of_the_loss_is_that_of_scikit_learn_class_by_class() -> None:
    before = linear()
    after, forget, unseen = changed(before, size=0.5), rows(50, 0), rows(80, 1)
    found = figures_of(before, after, data_of(forget, unseen), "loss_rise_auc")["loss_rise_auc"]
    rises = []
    for side in (forget, unseen):
        losses = [
            nn.functional.cross_entropy(model(side.inputs).detach().double(), side.labels, reduction="none")
            for model in (before, after)
        ]
        rises.append((losses[1] - losses[0]).numpy())
    expected = 0.0
    for label in range(CLASSES):
        mine, others = (
            rise[(side.labels == label).numpy()] for rise, side in zip(rises, (forget, unseen), strict=True)
        )
        auc = roc_auc_score([1] * len(mine) + [0] * len(others), np.concatenate([mine, others]))
        expected += len(mine) / len(forget) * auc
    assert found.value == pytest.approx(expected, abs=1e-6)


def test_passes_are_counted_and_draws_are_the_same_for_all_models() -> None:
    before, data = linear(), data_of(rows(100, 0), rows(100, 1))
    original = Readings(before, data)
    runs = []
    for _ in range(2):
        readings = Readings(changed(before), data)
        runs.append(run_audits(central_observation(readings, "client", original=original), ["parameter_difference"]))
    first, second = (run["parameter_difference"] for run in runs)
    assert first.figures == second.figures
    assert 0 < first.backward_passes == first.forward_passes <= 2 * 40 * 8


def test_without_the_model_before_there_is_no_figure_and_another_network_is_refused() -> None:
    data = data_of(rows(9, 0), rows(9, 1))
    alone = central_observation(Readings(linear(), data), "client")
    names = ["parameter_difference", "loss_rise_auc"]
    assert run_audits(alone, names)["parameter_difference"].figures == {}
    assert run_audits(alone, names)["loss_rise_auc"].figures["loss_rise_auc"].value is None
    assert ParameterDifference().figures == {}
    other = linear(FEATURES, 4, CLASSES)
    seen = central_observation(Readings(other, data), "client", original=Readings(linear(), data))
    error = run_audits(seen, ["parameter_difference"])["parameter_difference"].error
    assert error is not None and "2 and 4 parameters" in error
