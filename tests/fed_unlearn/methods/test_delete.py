from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn
from trained_digits import FORGOTTEN, Digits, accuracy, state_bytes

from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import InvalidDataError, InvalidParameterError
from fed_unlearn.logits import predict_logits
from fed_unlearn.methods.delete import Delete
from fed_unlearn.methods.parts.labels import allowed_answers


def linear_case(pixel: float) -> tuple[nn.Module, ImageSet]:
    """One pixel x and three classes with logits 2 x, x + 0.2 and 0.9 - 3 x; the sample's own class is 0."""
    layer = nn.Linear(1, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[2.0], [1.0], [-3.0]]))
        layer.bias.copy_(torch.tensor([0.0, 0.2, 0.9]))
    return nn.Sequential(nn.Flatten(), layer), ImageSet(torch.full((1, 1, 1, 1), pixel), torch.tensor([0]))


def hand_gradient(pixel: float) -> tuple[Tensor, Tensor]:
    """Of KL(target || softmax): softmax minus target in the bias, times the pixel in the weight."""
    logits = torch.tensor([2 * pixel, pixel + 0.2, 0.9 - 3 * pixel], dtype=torch.float64)
    weights = logits.exp()
    target = torch.tensor([0.0, float(weights[1]), float(weights[2])], dtype=torch.float64) / weights[1:].sum()
    error = weights / weights.sum() - target
    return error, error * pixel


def test_it_forgets_the_class_and_keeps_the_others(digits: Digits) -> None:
    before = accuracy(digits.trained, digits.test_retain)
    outcome = Delete().unlearn(digits.model, digits.forget)
    assert outcome.converged
    assert accuracy(outcome.model, digits.forget) <= 0.01
    assert accuracy(outcome.model, digits.test_forget) <= 0.06
    assert accuracy(outcome.model, digits.test_retain) >= before - 0.04


def test_targets_equal_those_computed_by_hand() -> None:
    # Powers of two as weights: 8 : 4 : 2 : 2 for the first sample, 1 : 2 : 4 : 8 for the second.
    logits = torch.tensor([[8.0, 4.0, 2.0, 2.0], [1.0, 2.0, 4.0, 8.0]]).log()
    labels = torch.tensor([0, 2])
    found = allowed_answers(logits, labels)
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.5, 0.25, 0.25], [1 / 11, 2 / 11, 0.0, 8 / 11]]))
    found = allowed_answers(logits, labels, frozenset([3]))
    torch.testing.assert_close(found, torch.tensor([[0.0, 2 / 3, 1 / 3, 0.0], [1 / 3, 2 / 3, 0.0, 0.0]]))
    found = allowed_answers(logits, labels, frozenset([1, 3]))
    assert found.tolist() == [[0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]]


@pytest.mark.parametrize("bound", [0.0, 0.25])
def test_one_step_on_a_linear_model_equals_the_hand_computed_one(bound: float) -> None:
    model, samples = linear_case(0.5)
    bias, weight = hand_gradient(0.5)
    length = float((bias.square().sum() + weight.square().sum()).sqrt())
    assert length > 0.25
    scale = bound / length if bound else 1.0
    method = Delete(epochs=1, learning_rate=0.1, max_gradient_norm=bound, target_accuracy=0)
    layer = method.unlearn(model, samples).model[1]  # type: ignore[index]
    expected = torch.tensor([0.0, 0.2, 0.9], dtype=torch.float64) - 0.1 * scale * bias
    torch.testing.assert_close(layer.bias.double(), expected, atol=1e-6, rtol=0)
    expected = torch.tensor([2.0, 1.0, -3.0], dtype=torch.float64) - 0.1 * scale * weight
    torch.testing.assert_close(layer.weight[:, 0].double(), expected, atol=1e-6, rtol=0)


def test_a_sample_that_is_forgotten_already_moves_nothing_where_samples_stop() -> None:
    model, samples = linear_case(0.1)  # logits 0.2, 0.3, 0.6: its own class is not on top
    before = state_bytes(model)
    settings = {"epochs": 1, "learning_rate": 0.1, "max_gradient_norm": 0.0}
    stopped = Delete(stop_per_sample=True, **settings).unlearn(model, samples)  # type: ignore[arg-type]
    assert state_bytes(stopped.model) == before
    moved = Delete(stop_per_sample=False, **settings).unlearn(model, samples).model[1]  # type: ignore[arg-type, index]
    expected = torch.tensor([0.0, 0.2, 0.9], dtype=torch.float64) - 0.1 * hand_gradient(0.1)[0]
    torch.testing.assert_close(moved.bias.double(), expected, atol=1e-6, rtol=0)


def test_guard_labels_are_what_the_original_says_among_allowed_classes(digits: Digits) -> None:
    outcome = Delete(epochs=1).unlearn(digits.model, digits.forget, excluded_classes=[8])
    ranked = predict_logits(digits.model, digits.forget).argsort(dim=1, descending=True).tolist()
    expected = [next(label for label in row if label not in (FORGOTTEN, 8)) for row in ranked]
    assert outcome.guard_labels is not None
    assert outcome.guard_labels.tolist() == expected


def test_answers_approach_the_targets_and_keep_their_proportions(digits: Digits) -> None:
    # Trained on beyond the boundary, the copy says what the original said of the other classes: nothing but the
    # forgotten class has moved, so the divergence falls far below what it was with that class still in.
    targets = allowed_answers(predict_logits(digits.trained, digits.forget), digits.forget.labels)

    def divergence(model: nn.Module) -> float:
        answers = predict_logits(model, digits.forget).log_softmax(dim=1)
        return float((torch.special.xlogy(targets, targets) - targets * answers).sum(dim=1).mean())

    method = Delete(epochs=40, stop_per_sample=False, target_accuracy=0, trained_layers=0)
    assert divergence(method.unlearn(digits.model, digits.forget).model) <= 0.1 * divergence(digits.trained)


def test_only_the_last_layers_change(digits: Digits) -> None:
    before = state_bytes(digits.trained)
    after = state_bytes(Delete(epochs=1).unlearn(digits.model, digits.forget).model)
    assert {name.split(".")[0] for name in before if after[name] != before[name]} == {"5", "7"}
    after = state_bytes(Delete(epochs=1, trained_layers=0).unlearn(digits.model, digits.forget).model)
    assert {name.split(".")[0] for name in before if after[name] != before[name]} == {"0", "1", "5", "7"}


def test_passes_equal_a_hand_count(digits: Digits) -> None:
    samples = digits.forget.subset(torch.arange(20))
    method = Delete(epochs=3, learning_rate=1e-9, batch_size=8, target_accuracy=0)
    outcome = method.unlearn(digits.model, samples)
    # The targets 20, three epochs of 20, the closing check 20.
    assert (outcome.forward_passes, outcome.backward_passes) == (20 + 60 + 20, 60)
    assert (outcome.converged, outcome.steps) == (False, 9)


def test_a_forget_set_with_no_class_left_is_refused(digits: Digits) -> None:
    others = [label for label in range(10) if label != FORGOTTEN]
    with pytest.raises(InvalidDataError, match=r"delete: classes .* are excluded"):
        Delete().unlearn(digits.model, digits.forget, excluded_classes=others)


def test_parameters() -> None:
    weak = Delete(epochs=2, learning_rate=1e-3)
    assert weak.stronger() == dataclasses.replace(weak, epochs=4, learning_rate=2e-3, max_steps=4000)
    with pytest.raises(InvalidParameterError, match=r"delete: trained_layers = -1 was given"):
        Delete(trained_layers=-1)
