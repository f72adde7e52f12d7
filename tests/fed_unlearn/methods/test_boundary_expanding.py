from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from trained_digits import FORGOTTEN, Digits, accuracy, state_bytes

from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import InvalidModelError, InvalidParameterError
from fed_unlearn.logits import predict_logits
from fed_unlearn.methods.boundary_expanding import BoundaryExpanding

GOOD = {"learning_rate": 1e-3, "epochs": 30, "batch_size": 32}


def test_it_forgets_the_class_and_keeps_the_others(digits: Digits) -> None:
    before = accuracy(digits.trained, digits.test_retain)
    outcome = BoundaryExpanding(**GOOD).unlearn(digits.model, digits.forget)  # type: ignore[arg-type]
    assert outcome.converged
    assert accuracy(outcome.model, digits.forget) <= 0.03
    assert accuracy(outcome.model, digits.test_forget) <= 0.06
    assert accuracy(outcome.model, digits.test_retain) >= before - 0.06


def test_outputs_are_exactly_restored(digits: Digits) -> None:
    model = digits.model
    before = {name: (tensor.shape, tensor.dtype) for name, tensor in model.state_dict().items()}
    outcome = BoundaryExpanding(epochs=1, learning_rate=1e-3).unlearn(model, digits.forget)
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in outcome.model.state_dict().items()} == before
    assert outcome.model[-1].out_features == 10  # type: ignore[index]
    assert predict_logits(outcome.model, digits.test_retain).shape == (len(digits.test_retain), 10)
    assert [name for name, _ in outcome.model.named_parameters()] == [name for name, _ in model.named_parameters()]


def test_one_step_on_a_linear_model_equals_the_hand_computed_one() -> None:
    # One pixel x = 0.5 and three classes with logits 1.0, 0.7, -0.6, then the shadow, whose logit is 0.
    layer = nn.Linear(1, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[2.0], [1.0], [-3.0]]))
        layer.bias.copy_(torch.tensor([0.0, 0.2, 0.9]))
    weights = torch.tensor([1.0, 0.7, -0.6, 0.0], dtype=torch.float64).exp()
    error = weights / weights.sum() - torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    samples = ImageSet(torch.full((1, 1, 1, 1), 0.5), torch.tensor([0]))
    method = BoundaryExpanding(epochs=1, learning_rate=0.1, target_accuracy=0)
    outcome = method.unlearn(nn.Sequential(nn.Flatten(), layer), samples, generator=torch.Generator().manual_seed(7))
    found = outcome.model[1]  # type: ignore[index]
    expected_bias = torch.tensor([0.0, 0.2, 0.9], dtype=torch.float64) - 0.1 * error[:3]
    expected_weight = torch.tensor([2.0, 1.0, -3.0], dtype=torch.float64) - 0.1 * error[:3] * 0.5
    torch.testing.assert_close(found.bias.double(), expected_bias, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.weight[:, 0].double(), expected_weight, atol=1e-6, rtol=0)


def test_guard_labels_are_what_the_unlearned_model_says_among_allowed_classes(digits: Digits) -> None:
    outcome = BoundaryExpanding(epochs=1, learning_rate=1e-3).unlearn(digits.model, digits.forget, excluded_classes=[8])
    ranked = predict_logits(outcome.model, digits.forget).argsort(dim=1, descending=True).tolist()
    expected = [next(label for label in row if label not in (FORGOTTEN, 8)) for row in ranked]
    assert outcome.guard_labels is not None
    assert outcome.guard_labels.tolist() == expected


def test_given_model_and_normalisation_statistics_stay(digits: Digits) -> None:
    model = digits.model
    before = state_bytes(model)
    after = state_bytes(BoundaryExpanding(**GOOD).unlearn(model, digits.forget).model)  # type: ignore[arg-type]
    assert state_bytes(model) == before
    assert model[-1].out_features == 10  # type: ignore[index]
    assert all(after[name] == before[name] for name in before if "running" in name or "batches" in name)
    assert after["7.weight"] != before["7.weight"]


def test_the_same_seed_gives_the_same_bytes(digits: Digits) -> None:
    def run(seed: int) -> dict[str, bytes]:
        generator = torch.Generator().manual_seed(seed)
        method = BoundaryExpanding(epochs=2, learning_rate=1e-3, batch_size=16)
        return state_bytes(method.unlearn(digits.model, digits.forget, generator=generator).model)

    torch.manual_seed(0)
    first = run(5)
    torch.manual_seed(1)
    assert run(5) == first
    assert run(6) != first


def test_passes_equal_a_hand_count(digits: Digits) -> None:
    samples = digits.forget.subset(torch.arange(20))
    method = BoundaryExpanding(epochs=3, learning_rate=1e-9, batch_size=8, target_accuracy=0)
    outcome = method.unlearn(digits.model, samples)
    # Three epochs of 20 and 20, the closing check 20, the guard labels 20.
    assert (outcome.forward_passes, outcome.backward_passes) == (60 + 20 + 20, 60)
    assert (outcome.converged, outcome.steps) == (False, 9)


def test_a_head_without_bias_and_a_bare_linear_model_work() -> None:
    generator = torch.Generator().manual_seed(0)
    samples = ImageSet(torch.rand(6, 2, 3, 3, generator=generator), torch.zeros(6, dtype=torch.int64))
    model = nn.Sequential(nn.Flatten(), nn.Linear(18, 4, bias=False))
    outcome = BoundaryExpanding(epochs=1).unlearn(model, samples)
    assert outcome.model[1].weight.shape == (4, 18)  # type: ignore[index]
    assert outcome.model[1].bias is None  # type: ignore[index]


def test_a_frozen_head_stays_as_it_was(digits: Digits) -> None:
    model = digits.model
    model[-1].requires_grad_(False)  # type: ignore[index]
    before = state_bytes(model)
    after = state_bytes(BoundaryExpanding(epochs=1, learning_rate=1e-2).unlearn(model, digits.forget).model)
    assert after["7.weight"] == before["7.weight"]
    assert after["5.weight"] != before["5.weight"]


def test_models_without_a_fitting_head_are_refused(digits: Digits) -> None:
    convolution = nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())
    with pytest.raises(InvalidModelError, match=r"no nn\.Linear"):
        BoundaryExpanding().unlearn(convolution, digits.forget)
    with pytest.raises(InvalidModelError, match="layer '5' has 48 outputs and the model 10"):
        BoundaryExpanding(head="5").unlearn(digits.model, digits.forget)


def test_parameters() -> None:
    weak = BoundaryExpanding(epochs=2, learning_rate=1e-3)
    assert weak.stronger() == dataclasses.replace(weak, epochs=4, learning_rate=2e-3, max_steps=4000)
    with pytest.raises(InvalidParameterError, match=r"boundary-expanding: learning_rate = -1 was given"):
        BoundaryExpanding(learning_rate=-1)
    with pytest.raises(InvalidParameterError, match=r"boundary-expanding: head = 3 was given; allowed is a text"):
        BoundaryExpanding(head=3)  # type: ignore[arg-type]
