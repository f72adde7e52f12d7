"""Shares of operations equal those counted by hand from the shapes of layers."""

from __future__ import annotations

import pytest
import torch
from block_models import Encoder, perceptron, rows, tokens
from torch import Tensor, nn

from fed_unlearn.methods.parts.blocks import divide
from fed_unlearn.methods.parts.operations import upper_share
from fed_unlearn.models import build_model
from fed_unlearn.seeding import isolated_random


class Recurrent(nn.Module):
    """A linear layer, an LSTM and a linear head, on sequences of 5 rows of 4."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 6), nn.LSTM(6, 3, batch_first=True), nn.Linear(3, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        states, _ = self.second(torch.relu(self.first(inputs)))
        logits: Tensor = self.head(states[:, -1])
        return logits


def share(model: nn.Module, inputs: Tensor, blocks: int) -> float:
    return upper_share(model, divide("test", model, inputs, blocks), inputs)


def test_the_upper_convolutions_of_all_cnn() -> None:
    with isolated_random(0):
        model = build_model("all-cnn", class_count=10, image_shape=(3, 32, 32), parameters={"width": 0.5})
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    places, head = [1024, 1024, 256, 256, 256, 64, 64, 64], 960
    weights = [27 * 48, 432 * 48, 432 * 96, *[864 * 96] * 4, 96 * 96]
    counts = [weight * place for weight, place in zip(weights, places, strict=True)]
    found = share(model, torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)), 2)
    assert found == pytest.approx((sum(counts[6:]) + head) / (sum(counts) + head))
    assert found == pytest.approx(0.068, abs=0.0005)
    assert model.training and all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_attention_counts_in_evaluation_mode() -> None:
    with isolated_random(0):
        model = Encoder(2).eval().requires_grad_(False)
    assert share(model, tokens(20), 1) == pytest.approx(0.5, abs=0.05)  # two layers alike, and a small head
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_recurrent_layer_counts() -> None:
    with isolated_random(0):
        model = Recurrent()
    inputs = torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(0))
    first, second, head = 5 * 4 * 6, 5 * (6 * 12 + 3 * 12), 3 * 2
    assert share(model, inputs, 1) == pytest.approx((second + head) / (first + second + head))


def test_nothing_below_the_division_is_the_whole_model() -> None:
    with isolated_random(0):
        one = nn.Sequential(nn.Flatten(), nn.Linear(6, 3))
        several = perceptron()
    assert share(one, rows(), 0) == 1.0
    assert 0 < share(several, rows(), 0) < share(several, rows(), 1) < 1
