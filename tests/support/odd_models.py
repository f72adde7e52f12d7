"""Models whose tensors are unusual; scenarios name them as ``odd_models:NAME``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Shape = tuple[int, int, int]


def network(class_count: int, image_shape: Shape, *between: nn.Module) -> nn.Sequential:
    """Two linear layers, and other modules after the first."""
    channels, height, width = image_shape
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels * height * width, 48),
        *between,
        nn.ReLU(),
        nn.Linear(48, class_count),
    )


class Around(nn.Module):
    """A network, other tensors, and a way from images to logits."""

    def __init__(self, inner: nn.Module, forward: Callable[[Around, Tensor], Tensor], **tensors: Tensor) -> None:
        super().__init__()
        self.inner = inner
        self.way = forward
        for name, tensor in tensors.items():
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(name, tensor)
            else:
                self.register_buffer(name, tensor)

    def forward(self, images: Tensor) -> Tensor:
        return self.way(self, images)


def casting(class_count: int, image_shape: Shape) -> nn.Module:
    """Weights in bfloat16; images are converted in the model, and logits back."""
    return Around(
        network(class_count, image_shape).bfloat16(), lambda model, images: model.inner(images.bfloat16()).float()
    )


def bfloat16(class_count: int, image_shape: Shape) -> nn.Module:
    """Weights in bfloat16; the model converts nothing."""
    return network(class_count, image_shape).bfloat16()


def float16(class_count: int, image_shape: Shape) -> nn.Module:
    """Weights in float16; the model converts nothing."""
    return network(class_count, image_shape).half()


def parallel(class_count: int, image_shape: Shape) -> nn.Module:
    """A network inside DataParallel, whose names begin with ``module.``."""
    return nn.DataParallel(network(class_count, image_shape))


def counting(class_count: int, image_shape: Shape) -> nn.Module:
    """A parameter and a counter without dimensions, truth values and an empty tensor."""

    def way(model: Around, images: Tensor) -> Tensor:
        if model.training:
            model.steps.add_(1)  # type: ignore[operator]
        return model.inner(images) * model.scale  # type: ignore[no-any-return]

    return Around(
        network(class_count, image_shape),
        way,
        scale=nn.Parameter(torch.tensor(1.0)),
        steps=torch.tensor(0),
        mask=torch.arange(class_count) % 2 == 0,
        empty=torch.zeros(0, 3),
    )


def complex_weights(class_count: int, image_shape: Shape) -> nn.Module:
    """A complex parameter, of which nobody takes an average by its real part alone."""
    weights = nn.Parameter(torch.ones(class_count, dtype=torch.complex64))
    return Around(
        network(class_count, image_shape), lambda model, images: (model.inner(images) * model.turn).real, turn=weights
    )


def viewing(class_count: int, image_shape: Shape) -> nn.Module:
    """It calls ``view`` on the maps of a convolution, as many tutorials do, and so needs contiguous images."""
    channels, height, width = image_shape
    inner = nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.Linear(4 * height * width, class_count))
    return Around(
        inner, lambda model, images: model.inner[1](torch.relu(model.inner[0](images)).view(-1, 4 * height * width))
    )


def frozen_body(class_count: int, image_shape: Shape) -> nn.Module:
    """Only the last layer may be trained."""
    inner = network(class_count, image_shape)
    inner[:-1].requires_grad_(False)
    return inner


def normalising(class_count: int, image_shape: Shape) -> nn.Module:
    """BatchNorm of one value a channel, which knows no variance of a single sample."""
    return network(class_count, image_shape, nn.BatchNorm1d(48))
