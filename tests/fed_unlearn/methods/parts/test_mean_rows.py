from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from fed_unlearn.arrays import same_bits
from fed_unlearn.errors import InvalidModelError
from fed_unlearn.methods.parts.mean_rows import take_mean_rows
from fed_unlearn.output_rows import OutputRows, with_mean_rows


@pytest.mark.parametrize("layer", [nn.Linear(3, 4), nn.Conv2d(3, 4, 1), nn.Linear(3, 4, bias=False)])
def test_rows_are_the_mean_of_the_others(layer: nn.Linear | nn.Conv2d) -> None:
    old = layer.weight.detach().clone()
    take_mean_rows("test", layer, [1, 3])
    torch.testing.assert_close(layer.weight[1], (old[0] + old[2]) / 2)
    assert torch.equal(layer.weight[1], layer.weight[3]) and torch.equal(layer.weight[[0, 2]], old[[0, 2]])
    if layer.bias is not None:
        torch.testing.assert_close(layer.bias[3], (layer.bias[0] + layer.bias[2]) / 2)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_rows_are_bit_for_bit_those_that_a_federation_commits(kind: torch.dtype) -> None:
    layer = nn.Linear(5, 7, dtype=kind)
    arrays = {name: value.numpy().copy() for name, value in layer.state_dict().items()}
    take_mean_rows("test", layer, [2, 6])
    expected = with_mean_rows(arrays, OutputRows("weight", "bias"), dict.fromkeys((2, 6), (0, 1, 3, 4, 5)))
    assert same_bits({name: value.numpy() for name, value in layer.state_dict().items()}, expected)


def test_rows_in_half_precision_are_set_too() -> None:
    layer = nn.Linear(3, 4, dtype=torch.bfloat16)
    take_mean_rows("test", layer, [0])
    torch.testing.assert_close(layer.weight[0], layer.weight[1:].double().mean(0).bfloat16())


def test_normalised_weights_are_set_through_their_parametrisation() -> None:
    layer = parametrizations.weight_norm(nn.Linear(3, 4))
    take_mean_rows("test", layer, [0])  # type: ignore[arg-type]
    torch.testing.assert_close(layer.weight[0], layer.weight[1:].mean(0))


def test_a_frozen_layer_is_refused() -> None:
    with pytest.raises(InvalidModelError, match="test: the weight of the output layer is frozen"):
        take_mean_rows("test", nn.Linear(3, 4).requires_grad_(False), [0])
