"""A digest tells apart all models that may answer differently."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fed_unlearn.model_digests import digest_of
from fed_unlearn.seeding import isolated_random


def test_the_digest_of_a_model_is_of_its_parameters_its_buffers_and_how_it_is_built() -> None:
    plain, normed = nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.BatchNorm1d(2))
    before = digest_of(normed)
    normed[0].running_mean += 1
    assert len({digest_of(plain), before, digest_of(normed)}) == 3
    with isolated_random(0):
        layer = nn.Linear(2, 2)
    assert digest_of(nn.Sequential(layer, nn.ReLU())) != digest_of(nn.Sequential(layer, nn.Tanh()))


def test_the_digest_of_a_model_is_of_its_plain_attributes() -> None:
    class Scaled(nn.Module):
        def __init__(self, factor: float, shift: torch.Tensor) -> None:
            super().__init__()
            self.factor, self.shift = factor, shift

    digests = {digest_of(nn.Sequential(Scaled(factor, shift))) for factor in (1.0, 2.0) for shift in torch.eye(2)}
    assert len(digests) == 4
    model = nn.Sequential(Scaled(1.0, torch.ones(2)))
    assert digest_of(model.train()) == digest_of(model.eval()), "a model answers in the mode of evaluation"


class _Masked(nn.Linear):
    """A layer whose plain attributes change what it answers."""

    def __init__(self) -> None:
        super().__init__(4, 3)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)
        self._scale = 1.0
        self._mask: torch.Tensor | None = torch.zeros(3)
        self.pieces = {"masks": [torch.zeros(2000)]}
        self.prior = np.zeros(3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("_scale", 2.0),
        ("_mask", torch.tensor([0.0, -1e4, 0.0])),
        ("_mask", torch.tensor([0.0, -1e4, 0.0]).to_sparse()),
        ("_mask", torch.zeros(3, device="meta")),
        ("_mask", None),
        ("pieces", {"masks": [torch.zeros(2000).index_fill(0, torch.tensor([1000]), 1)]}),
        ("prior", np.array([0.0, 1.0, 0.0])),
    ],
    ids=["number", "tensor", "sparse", "meta", "none", "deep in a large one", "array"],
)
def test_a_private_attribute_or_a_nested_one_makes_another_model(name: str, value: object) -> None:
    """What a mask of the same weights answers must not be taken from before it was there."""
    changed = _Masked()
    setattr(changed, name, value)
    assert digest_of(_Masked()) == digest_of(_Masked())
    assert digest_of(changed) != digest_of(_Masked())


def test_the_weights_of_a_module_that_is_left_out_do_not_count() -> None:
    with isolated_random(0):
        model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    before = digest_of(model), digest_of(model, without="1")
    with torch.no_grad():
        model[1].weight.add_(1)
    assert digest_of(model) != before[0]
    assert digest_of(model, without="1") == before[1]
    with torch.no_grad():
        model[0].bias.add_(1)
    assert digest_of(model, without="1") != before[1]
