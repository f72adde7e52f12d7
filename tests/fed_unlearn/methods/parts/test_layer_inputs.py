from __future__ import annotations

import torch
from torch import Tensor, nn
from trained_digits import Digits

from fed_unlearn.data.tensors import TensorSet
from fed_unlearn.methods.parts.layer_inputs import input_means, input_rows, plain_layers


class Twice(nn.Module):
    """Calls one layer twice, another on rows of windows, and a third as usual."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.windows, self.last = nn.Linear(4, 4), nn.Linear(2, 2), nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.twice(self.twice(inputs))
        logits: Tensor = self.last(self.windows(hidden.reshape(-1, 2)).reshape(hidden.shape))
        return logits


def test_means_of_a_convolution_are_over_positions_and_samples_of_a_class(digits: Digits) -> None:
    model, samples = digits.model.eval(), digits.retain.subset(torch.arange(700))
    found = input_means(model, samples, 10)
    assert list(found) == list(plain_layers(model))
    pixels = samples.images.double().mean((2, 3))
    classes = samples.labels.unique()
    expected = torch.stack([pixels[samples.labels == label].mean(0) for label in classes])
    torch.testing.assert_close(next(iter(found.values())), expected)
    rows = input_rows(model, samples)
    for name, means in found.items():
        by_hand = torch.stack([rows[name][samples.labels == label].mean(0) for label in classes])
        torch.testing.assert_close(means, by_hand)


def test_layers_without_a_row_for_each_sample_are_left_out() -> None:
    inputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    samples = TensorSet(inputs, torch.arange(5) % 3)
    model = Twice().eval()
    rows = input_rows(model, samples)
    assert list(rows) == ["last"]
    assert rows["last"].shape == (5, 4)


def test_grouped_and_frozen_layers_are_left_out() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 4, 3), nn.Linear(4, 4))
    model[1].requires_grad_(False)
    assert list(plain_layers(model)) == ["2"]
