from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from trained_digits import FORGOTTEN, Digits, accuracy, state_bytes

from fed_unlearn.data.tensors import TensorSet
from fed_unlearn.errors import InvalidDataError, InvalidModelError, InvalidParameterError
from fed_unlearn.logits import predict_logits
from fed_unlearn.methods.damp import Damp


def test_it_forgets_the_class_and_keeps_the_others(digits: Digits) -> None:
    before = accuracy(digits.trained, digits.test_retain)
    outcome = Damp().unlearn(digits.model, digits.forget, digits.retain)
    assert outcome.converged
    assert accuracy(outcome.model, digits.test_forget) == 0
    assert accuracy(outcome.model, digits.test_retain) >= before - 0.01
    assert outcome.guard_labels is None


def test_a_linear_model_loses_the_class_s_own_direction_as_computed_by_hand() -> None:
    # Class 2 lies at (1, 1, 2), the others in the plane of the first two features.
    points = torch.tensor([[4.0, 0, 0], [0, 4, 0], [1, 1, 2]])
    labels = torch.arange(3).repeat(6)
    noise = 0.01 * torch.randn(18, 3, generator=torch.Generator().manual_seed(0))
    noise -= torch.stack([noise[labels == label].mean(0) for label in range(3)])[labels]
    samples = TensorSet(points[labels] + noise, labels)
    model = nn.Sequential(nn.Linear(3, 3))
    outcome = Damp().unlearn(model, samples.of_classes({2}), samples.of_classes({0, 1}))
    weight, bias = (parameter.detach().clone() for parameter in model.parameters())
    weight[:, 2] = 0  # its direction is the third axis, and nearest means make no mistake here
    weight[2], bias[2] = weight[:2].mean(0), bias[:2].mean()
    torch.testing.assert_close(outcome.model[0].weight.detach(), weight, rtol=1e-5, atol=1e-6)  # type: ignore[index]
    torch.testing.assert_close(outcome.model[0].bias.detach(), bias)  # type: ignore[index]


def test_the_logit_of_the_forgotten_class_is_the_mean_of_the_others(digits: Digits) -> None:
    logits = predict_logits(Damp().unlearn(digits.model, digits.forget, digits.retain).model, digits.test_forget)
    others = [label for label in range(10) if label != FORGOTTEN]
    torch.testing.assert_close(logits[:, FORGOTTEN], logits[:, others].mean(1), rtol=1e-4, atol=1e-4)


def test_passes_equal_a_hand_count(digits: Digits) -> None:
    outcome = Damp(samples_per_class=20, probe_samples=50).unlearn(digits.model, digits.forget, digits.retain)
    kept = 20 * 9
    assert (outcome.forward_passes, outcome.backward_passes) == (20 + kept + 20 + 50 + len(digits.forget), 0)


def test_single_samples_are_refused(digits: Digits) -> None:
    before = state_bytes(digits.model)
    first, rest = torch.arange(8), torch.arange(8, len(digits.retain))
    with pytest.raises(InvalidDataError, match="of each class of the 8 forget samples others are retained"):
        Damp().unlearn(digits.model, digits.retain.subset(first), digits.retain.subset(rest))
    assert state_bytes(digits.model) == before


def test_retained_samples_of_a_forgotten_class_are_not_read(digits: Digits) -> None:
    forget, retain = digits.forget, digits.retain
    left = retain.subset((retain.labels != 7).nonzero().flatten())
    with_earlier = Damp().unlearn(digits.model, forget, retain, excluded_classes={7})
    without = Damp().unlearn(digits.model, forget, left, excluded_classes={7})
    for one, other in zip(with_earlier.model.parameters(), without.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    with pytest.raises(InvalidDataError, match=r"damp: classes \[2\] are forgotten, and no retained sample is of"):
        samples = retain.of_classes({2})
        Damp().unlearn(digits.model, samples, samples, excluded_classes={2})


def test_where_no_layer_has_a_direction_to_lose_the_aim_is_not_met() -> None:
    points = torch.tensor([[4.0, 0], [0, 4], [3, 3]])
    samples = TensorSet(points.repeat(4, 1), torch.arange(3).repeat(4))
    outcome = Damp().unlearn(nn.Sequential(nn.Linear(2, 3)), samples.of_classes({2}), samples.of_classes({0, 1}))
    assert (outcome.converged, outcome.steps) == (False, 0)


def test_frozen_layers_stay_and_a_model_of_nothing_else_is_refused(digits: Digits) -> None:
    model = digits.model
    model[5].requires_grad_(False)  # type: ignore[index]
    after = state_bytes(Damp().unlearn(model, digits.forget, digits.retain).model)
    assert [name for name, value in state_bytes(model).items() if after[name] != value] == ["7.weight", "7.bias"]
    with pytest.raises(InvalidModelError, match="damp: the model has no linear layer or convolution whose weight may"):
        Damp().unlearn(model.requires_grad_(False), digits.forget, digits.retain)


def test_the_draw_is_that_of_the_generator(digits: Digits) -> None:
    def run(seed: int) -> dict[str, bytes]:
        generator = torch.Generator().manual_seed(seed)
        method = Damp(samples_per_class=20)
        return state_bytes(method.unlearn(digits.model, digits.forget, digits.retain, generator=generator).model)

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_parameters() -> None:
    assert Damp().stronger() == dataclasses.replace(Damp(), scaled=False)
    with pytest.raises(InvalidParameterError, match=r"damp: samples_per_class = 0 was given"):
        Damp(samples_per_class=0)
