from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fed_unlearn.methods.parts.directions import own_directions, separation, take_out


def test_directions_are_what_the_staying_means_do_not_span() -> None:
    staying = torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 0]], dtype=torch.float64)
    means = torch.tensor([[5.0, -2, 3, 4]], dtype=torch.float64)
    found = own_directions(means, staying)
    expected = torch.tensor([0, 0, 0.6, 0.8], dtype=torch.float64)
    torch.testing.assert_close(found[:, 0] * found[2, 0].sign(), expected)
    assert found.shape == (4, 1)


def test_a_mean_in_the_span_has_no_direction_and_two_alike_have_one() -> None:
    staying = torch.eye(3, dtype=torch.float64)
    assert own_directions(torch.ones(1, 3, dtype=torch.float64), staying).shape == (3, 0)
    means = torch.tensor([[0.0, 0, 1], [0, 0, 2]], dtype=torch.float64)
    assert own_directions(means, staying[:2]).shape == (3, 1)


def test_separation_is_the_balanced_accuracy_above_chance() -> None:
    means, staying = torch.tensor([[10.0]]), torch.tensor([[0.0], [-5.0]])
    forget, kept = torch.tensor([[9.0], [6.0], [4.0], [11.0]]), torch.tensor([[1.0], [8.0], [-4.0], [0.0], [2.0]])
    assert separation(forget, kept, means, staying) == pytest.approx(3 / 4 - 1 / 5)
    assert separation(kept, forget, means, staying) == 0


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_a_linear_layer_answers_to_inputs_along_a_direction_by_so_much_less(share: float) -> None:
    layer = nn.Linear(4, 3)
    direction = torch.tensor([[0.0], [0.6], [0.8], [0.0]])
    across = torch.tensor([[1.0, 0.8, -0.6, 2.0]])
    before, kept = layer(direction.T) - layer.bias, layer(across)
    take_out(layer, direction.double(), share)
    torch.testing.assert_close(layer(direction.T) - layer.bias, (1 - share) * before, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(layer(across), kept, rtol=1e-5, atol=1e-6)


def test_a_convolution_loses_a_direction_of_its_channels_at_every_place() -> None:
    layer = nn.Conv2d(2, 3, 3, padding=1)
    along = torch.randn(1, 1, 5, 5, generator=torch.Generator().manual_seed(0)).expand(1, 2, 5, 5)
    direction = torch.full((2, 1), 1 / math.sqrt(2), dtype=torch.float64)
    take_out(layer, direction, 1.0)
    nothing = layer.bias.detach().view(1, 3, 1, 1).expand(1, 3, 5, 5)
    torch.testing.assert_close(layer(along), nothing, rtol=1e-5, atol=1e-6)
