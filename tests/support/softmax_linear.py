"""A softmax-linear model, samples for it, and the arithmetic of its gradients in NumPy."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fed_unlearn.data.images import ImageSet

Array = NDArray[numpy.float64]
Mask = NDArray[numpy.bool_]
PIXELS, CLASSES = 6, 4


def linear_model(seed: int = 0) -> nn.Module:
    """Weights and, below, pixels are multiples of 1 / 4: logits are exact, whatever order they are summed in."""
    layer = nn.Linear(PIXELS, CLASSES)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(CLASSES, PIXELS, generator=generator).mul(4).round() / 4)
        layer.bias.copy_(torch.randn(CLASSES, generator=generator).mul(4).round() / 4)
    return nn.Sequential(nn.Flatten(), layer)


def drawn_samples(count: int, seed: int) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 1, 2, 3, generator=generator).mul(4).round() / 4
    return ImageSet(images, torch.randint(CLASSES, (count,), generator=generator))


def parameters_of(model: nn.Module) -> Array:
    """Weights and, as the last column, biases."""
    weight, bias = (parameter.detach().double().numpy() for parameter in model[1].parameters())  # type: ignore[index]
    return numpy.column_stack([weight, bias])


def inputs_of(samples: ImageSet) -> Array:
    """Pixels and, as the last column, ones: logits are these times the parameters."""
    return numpy.column_stack([samples.images.double().flatten(1).numpy(), numpy.ones(len(samples))])


def one_hot(samples: ImageSet, excluded: Collection[int] = ()) -> Mask:
    """Each sample's own class, and the excluded ones."""
    forbidden = numpy.eye(CLASSES, dtype=bool)[samples.labels.numpy()]
    forbidden[:, list(excluded)] = True
    return forbidden


def softmax(logits: Array) -> Array:
    weights: Array = numpy.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def gaps(logits: Array, forbidden: Mask) -> Array:
    """Largest logit of the other classes minus that of the forbidden ones."""
    largest: Array = numpy.where(forbidden, -numpy.inf, logits).max(axis=1)
    return largest - numpy.where(forbidden, logits, -numpy.inf).max(axis=1)


def assert_parameters(model: nn.Module, expected: Array) -> None:
    numpy.testing.assert_allclose(parameters_of(model), expected, rtol=0, atol=2e-6)


class Recording(nn.Module):
    """A model that, together with all its copies, writes down the first pixel of every image that it is given."""

    trained: ClassVar[list[Tensor]] = []
    read: ClassVar[list[Tensor]] = []

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        Recording.trained.clear()
        Recording.read.clear()

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.flatten(1)[:, 0].clone()
        Recording.read.append(pixels)
        if torch.is_grad_enabled():
            Recording.trained.append(pixels)
        logits: Tensor = self.inner(images)
        return logits
