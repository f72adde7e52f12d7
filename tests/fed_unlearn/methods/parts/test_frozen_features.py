"""What an output layer reads: beside a hand-made pass, and the same bits whatever the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import InvalidModelError
from fed_unlearn.methods.parts.frozen_features import check_replaceable, frozen_features, put_head
from fed_unlearn.methods.parts.heads import find_head
from fed_unlearn.methods.parts.ridge import FEATURE_STEP, RidgeStatistics
from fed_unlearn.seeding import isolated_random


def samples_of(count: int) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    return ImageSet(torch.rand(count, 1, 8, 8, generator=generator), torch.arange(count) % 10)


def network() -> nn.Sequential:
    with isolated_random(3):
        return nn.Sequential(
            nn.Conv2d(1, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(288, 24),
            nn.ReLU(),
            nn.Linear(24, 10),
        )


def features_of(model: nn.Module, samples: ImageSet) -> Tensor:
    return frozen_features("test", model, find_head("test", model, samples), samples)


def test_features_are_the_inputs_of_the_output_layer_in_double_precision() -> None:
    model, samples = network(), samples_of(70)
    features = features_of(model, samples)
    with torch.no_grad():
        by_hand = model[:-1].double().eval()(samples.images.double())
    assert features.dtype == torch.float64
    assert torch.allclose(features, by_hand, rtol=1e-12)


def test_a_convolution_reads_the_mean_over_positions() -> None:
    with isolated_random(3):
        model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    samples = samples_of(12)
    head = find_head("test", model, samples)
    assert head.name == "2"
    features = features_of(model, samples)
    with torch.no_grad():
        by_hand = model[:2].double()(samples.images.double()).mean(dim=(2, 3))
    assert torch.allclose(features, by_hand, rtol=1e-12)


def test_rounded_features_do_not_depend_on_the_batch() -> None:
    model, samples = network(), samples_of(600)
    alone = torch.cat([features_of(model, samples.subset(torch.tensor([place]))) for place in range(0, 600, 13)])
    together = features_of(model, samples)[::13]
    assert torch.equal((alone / FEATURE_STEP).round(), (together / FEATURE_STEP).round())


def test_the_model_stays_as_it_was() -> None:
    model, samples = network().train(), samples_of(5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    features_of(model, samples)
    assert model.training
    for name, value in model.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])


def test_no_sample_has_no_features() -> None:
    model, samples = network(), samples_of(3)
    found = frozen_features("test", model, find_head("test", model, samples), samples.subset(torch.arange(0)))
    assert found.shape == (0, 24)


@pytest.mark.parametrize("bias", [True, False])
def test_an_output_layer_gets_the_solution(bias: bool) -> None:
    samples, layer = samples_of(40), nn.Linear(64, 10, bias=bias)
    statistics = RidgeStatistics.of(samples.images.flatten(1), samples.labels, 10)
    put_head(layer, statistics, 0.01)
    weight, offset = statistics.solve(statistics.penalty_of(0.01), intercept=bias)
    assert np.array_equal(layer.weight.detach().numpy(), weight.astype(np.float32))
    if bias:
        assert np.array_equal(layer.bias.detach().numpy(), offset.astype(np.float32))


def test_a_weight_that_is_computed_from_others_is_refused() -> None:
    samples = samples_of(4)
    model = nn.Sequential(nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(64, 10)))
    with pytest.raises(InvalidModelError, match="test: the weight of layer '1' is computed from others"):
        check_replaceable("test", find_head("test", model, samples))


def test_a_model_that_is_bound_to_single_precision_is_refused() -> None:
    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.below, self.head = nn.Linear(64, 8), nn.Linear(8, 10)

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.head(self.below(images.flatten(1).float()))
            return logits

    with pytest.raises(InvalidModelError, match="the model does not compute in double precision"):
        features_of(Single(), samples_of(4))
