import itertools

import pytest
import torch
from audited_digits import data, model
from torch import Tensor, nn
from torch.nn import functional

from fed_unlearn.audits.features.activations import MOST_LAYERS, MOST_VALUES, layer_inputs
from fed_unlearn.audits.readings import Readings, RequestData
from fed_unlearn.data.tensors import TensorSet


def readings(network: nn.Module, samples: TensorSet) -> Readings:
    return Readings(network, RequestData(parts={"forget": samples}, classes=frozenset({0}), class_count=3))


def samples(count: int, *shape: int) -> TensorSet:
    return TensorSet(torch.rand(count, *shape, generator=torch.Generator().manual_seed(0)), torch.arange(count) % 3)


class Residual(nn.Module):
    """Two branches that read one tensor, a layer that is called twice, and functions between the layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.skip, self.head = nn.Conv2d(4, 4, 1), nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.first(inputs).relu()
        hidden = self.second(hidden).relu() + self.skip(hidden)
        hidden = self.second(hidden).relu()
        return self.head(hidden.mean((2, 3)))


def test_layers_are_what_the_next_layer_with_weights_reads() -> None:
    part = data().parts["test_forget"]
    of_model = Readings(model("original"), data())
    before = of_model.passes.forward
    found = layer_inputs(of_model, part, most_side=8)
    with torch.inference_mode():
        expected = model("original")[:5](part.batch()[0])
    assert list(found) == ["5"]  # the first layer reads images, and the output layer the penultimate features
    assert torch.allclose(found["5"], expected, atol=1e-6)
    assert of_model.passes.forward - before == len(part)


def test_a_tensor_is_taken_once_and_maps_are_pooled() -> None:
    network, images = Residual().eval(), samples(5, 3, 12, 12)
    found = layer_inputs(readings(network, images), images, most_side=4)
    with torch.inference_mode():
        expected = functional.adaptive_avg_pool2d(network.first(images.batch()[0]).relu(), 4).flatten(1)
    assert list(found) == ["second"] and torch.allclose(found["second"], expected, atol=1e-6)
    wide = layer_inputs(readings(network, images), images, most_side=100)["second"]
    assert wide.shape == (5, 4 * 12 * 12)


def test_maps_of_many_channels_are_pooled_further() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 300, 1), nn.Conv2d(300, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    images = samples(2, 3, 16, 16)
    found = layer_inputs(readings(network, images), images, most_side=8)["1"]
    assert found.shape == (2, 300 * 4 * 4) and MOST_VALUES < 300 * 8 * 8


@pytest.mark.parametrize("most_side", [1, 2])
def test_positions_of_a_linear_layer_are_pooled(most_side: int) -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedded, self.mixed, self.head = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.head(self.mixed(self.embedded(inputs).relu()).mean(1))

    network, inputs = Tokens(), samples(5, 8, 4)
    found = layer_inputs(readings(network, inputs), inputs, most_side=most_side)["mixed"]
    with torch.inference_mode():
        hidden = network.embedded(inputs.batch()[0]).relu()
    expected = torch.stack([part.mean(1) for part in hidden.chunk(most_side, dim=1)], dim=2).flatten(1)
    assert torch.allclose(found, expected, atol=1e-6)


def test_many_layers_are_spread_evenly_and_the_last_is_there() -> None:
    network = nn.Sequential(*(nn.Linear(4, 4) for _ in range(30)), nn.Linear(4, 3))
    vectors = samples(3, 4)
    found = [int(name) for name in layer_inputs(readings(network, vectors), vectors, most_side=8)]
    assert len(found) == MOST_LAYERS and found[0] == 1 and found[-1] == 29
    assert {later - earlier for earlier, later in itertools.pairwise(found)} == {4}


def test_hooks_are_gone_and_modes_are_back() -> None:
    network, images = Residual().train(), samples(5, 3, 8, 8)
    layer_inputs(readings(network, images), images, most_side=8)
    assert network.training and not any(module._forward_pre_hooks for module in network.modules())


def test_a_model_without_hidden_layers_has_none() -> None:
    network, vectors = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), samples(3, 4)
    assert layer_inputs(readings(network, vectors), vectors, most_side=8) == {}
