"""Scores of classes: the closed form in numpy, whatever a constant or a mask does to the outputs, in one pass."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fed_unlearn.audits.scores import class_scores, scored_logits
from fed_unlearn.data.tensors import TensorSet
from fed_unlearn.logits import predict_logits

CLASSES = 5


def samples(count: int = 30, shape: tuple[int, ...] = (6,)) -> TensorSet:
    generator = torch.Generator().manual_seed(1)
    return TensorSet(torch.randn(count, *shape, generator=generator), torch.arange(count) % CLASSES)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, CLASSES))


def by_hand(features: Tensor, weight: Tensor, bias: Tensor) -> np.ndarray:
    own = features.double().numpy() @ weight.double().numpy().T
    logits = own + bias.double().numpy()
    columns = [
        own[:, index] - np.log(np.exp(np.delete(logits, index, axis=1)).sum(1)) for index in range(logits.shape[1])
    ]
    return np.stack(columns, axis=1)


def test_scores_are_log_odds_without_the_class_s_own_bias() -> None:
    model, data = network(), samples()
    logits, scores = scored_logits(model, data)
    with torch.no_grad():
        expected = by_hand(model[:2](data.batch()[0]), model[2].weight, model[2].bias)
    np.testing.assert_allclose(scores.numpy(), expected, atol=1e-5)
    assert torch.equal(logits, predict_logits(model, data))
    assert not scores.is_inference() and not scores.requires_grad


def test_a_constant_on_the_bias_changes_no_score_of_its_class() -> None:
    model, data = network(), samples()
    hidden = copy.deepcopy(model)
    with torch.no_grad():
        hidden[2].bias[3] = -10_000.0
    before, after = scored_logits(model, data)[1], scored_logits(hidden, data)[1]
    assert torch.equal(before[:, 3], after[:, 3])
    assert not torch.allclose(before[:, 0], after[:, 0])


class Masked(nn.Module):
    """Hides class 3 behind its output layer, in place."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.inner(inputs)
        logits[:, 3] = logits[:, 3] - 1000.0
        return logits


def test_a_mask_behind_the_output_layer_hides_nothing() -> None:
    model, data = network(), samples()
    logits, scores = scored_logits(Masked(model), data)
    assert bool((logits[:, 3] < -900).all())
    assert torch.equal(scores, scored_logits(model, data)[1])


class Pooled(nn.Module):
    """A 1x1 convolution puts out the logits, which are averaged over positions."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, CLASSES, 1, stride=stride)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(inputs).mean((2, 3))


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_may_put_out_the_logits(stride: int) -> None:
    torch.manual_seed(2)
    model, data = Pooled(stride), samples(12, (3, 4, 4))
    scores = scored_logits(model, data)[1]
    features = data.batch()[0][:, :, ::stride, ::stride].mean((2, 3))
    with torch.no_grad():
        expected = by_hand(features, model.head.weight.flatten(1), model.head.bias)
    np.testing.assert_allclose(scores.numpy(), expected, atol=1e-5)


class Distances(nn.Module):
    """Logits without any layer that puts them out."""

    def __init__(self) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.eye(CLASSES, 6))

    def forward(self, inputs: Tensor) -> Tensor:
        return -torch.cdist(inputs, self.centres)


def test_without_an_output_layer_scores_are_those_of_the_logits() -> None:
    data = samples()
    logits, scores = scored_logits(Distances(), data)
    assert torch.equal(scores, class_scores(logits))
    np.testing.assert_allclose(scores.numpy(), by_hand(logits, torch.eye(CLASSES), torch.zeros(CLASSES)), atol=1e-5)


def test_scores_of_a_certain_model_are_exact() -> None:
    scores = class_scores(torch.tensor([[1000.0, 0.0, -5.0]]))
    expected = 1000 - np.log(1 + np.exp(-5.0))
    assert scores[0].tolist() == pytest.approx([expected, -1000.0, -1005.0], rel=1e-7)
    assert class_scores(torch.empty(0, 3)).shape == (0, 3)


class Counted(nn.Module):
    """Counts what it is given."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.seen = inner, 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen += len(inputs)
        answers: Tensor = self.inner(inputs)
        return answers


def test_each_sample_is_read_once_and_the_first_to_find_the_layer() -> None:
    model = Counted(network())
    scored_logits(model, samples(700))
    assert model.seen == 700 + 2
    assert not model.inner[2]._forward_hooks and not model._forward_hooks
