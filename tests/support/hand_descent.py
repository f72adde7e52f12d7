"""Gradient descent on a softmax-linear model, whose gradients have a closed form, by NumPy arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fed_unlearn.data.images import ImageSet

Array = NDArray[numpy.float64]
Term = tuple[float, ImageSet]
"""A mean cross-entropy over those samples of a batch that are in the set, under the set's labels, and its weight."""
PIXELS, CLASSES = 6, 4


def linear_model() -> nn.Module:
    layer = nn.Linear(PIXELS, CLASSES)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        layer.weight.copy_(2 * torch.randn(CLASSES, PIXELS, generator=generator))
        layer.bias.copy_(torch.randn(CLASSES, generator=generator))
    return nn.Sequential(nn.Flatten(), layer)


def known_samples(model: nn.Module, count: int, seed: int) -> ImageSet:
    """Random images without a black pixel, under the labels that the model gives them."""
    images = 0.1 + 0.9 * torch.rand(count, 1, 2, 3, generator=torch.Generator().manual_seed(seed))
    return ImageSet(images, model(images).argmax(dim=1))


def table(model: nn.Module) -> Array:
    """The weights of a linear model, with the biases as the last column."""
    weight, bias = (parameter.detach().double().numpy() for parameter in model[1].parameters())  # type: ignore[index]
    return numpy.column_stack([weight, bias])


def gradient_of(parameters: Array, images: Tensor, labels: Sequence[int]) -> Array:
    """Of the mean cross-entropy: (softmax - one hot)^T (pixels, 1), over the number of samples."""
    pixels = numpy.column_stack([images.flatten(1).double().numpy(), numpy.ones(len(images))])
    exponentials = numpy.exp(pixels @ parameters.T)
    errors = exponentials / exponentials.sum(axis=1, keepdims=True) - numpy.eye(len(parameters))[list(labels)]
    gradient: Array = errors.T @ pixels / len(images)
    return gradient


def images_trained_on(model: nn.Module) -> list[Tensor]:
    """A list that grows by the batch each time that the model or a copy of it runs with gradients."""
    found = list[Tensor]()

    def record(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if torch.is_grad_enabled():
            found.append(inputs[0].detach().clone())

    model.register_forward_pre_hook(record)
    return found


def keys(images: Tensor) -> list[bytes]:
    """The bytes of each image, whatever the strides of the batch are."""
    return [image.flatten().numpy().tobytes() for image in images]


def descended(
    parameters: Array,
    batches: Sequence[Tensor],
    terms: Sequence[Term],
    *,
    learning_rate: float,
    momentum: float = 0.9,
    bound: float = 0.0,
    allowed: NDArray[numpy.bool_] | bool = True,
) -> Array:
    """Parameters after one step of SGD a batch, with the gradient kept to the allowed entries and bounded."""
    velocity = numpy.zeros_like(parameters)
    for batch in batches:
        gradient, found = numpy.zeros_like(parameters), 0
        for weight, samples in terms:
            labels = dict(zip(keys(samples.images), samples.labels.tolist(), strict=True))
            rows = [row for row, key in enumerate(keys(batch)) if key in labels]
            wanted = [labels[key] for key in keys(batch) if key in labels]
            gradient += weight * gradient_of(parameters, batch[rows], wanted)
            found += len(rows)
        assert found == len(batch)
        gradient = numpy.where(allowed, gradient, 0)
        length = float(numpy.linalg.norm(gradient))
        velocity = momentum * velocity + gradient * (min(1, bound / length) if bound else 1)
        parameters = parameters - learning_rate * velocity
    return parameters
