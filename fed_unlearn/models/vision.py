"""torchvision's classification models, adapted to small images and any number of channels."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Sequence
from typing import Any

import torchvision
from torch import Tensor, nn

from fed_unlearn.errors import InvalidModelError
from fed_unlearn.model_inputs import mark_any_layout
from fed_unlearn.models.networks import Normalize

SMALL_IMAGE_SIDE = 64

_with_normalisation: dict[type[nn.Module], type[nn.Module]] = {}
"""Class that normalises, by the class of torchvision: one each, so that models of one architecture are of one type."""


def torchvision_model(
    name: str,
    class_count: int,
    image_shape: tuple[int, int, int],
    mean: float | Sequence[float] = 0.5,
    std: float | Sequence[float] = 0.5,
    **parameters: object,
) -> nn.Module:
    """Build an untrained torchvision model by name. Its tensors keep torchvision's names.

    If the shorter side of the images is below 64 pixels, ResNets get a 3x3 stem of stride 1 without max pooling.

    Parameters
    ----------
    name : str
        A name of ``torchvision.models.list_models()``.
    class_count : int
        Number of logits.
    image_shape : tuple of int
        Channels, height and width of the images.
    mean, std : float or sequence of float, default 0.5
        Pixel normalisation, as in :class:`~fed_unlearn.models.Normalize`.
    **parameters
        Passed to torchvision's builder.

    Raises
    ------
    InvalidModelError
        If torchvision has no classification model of that name.
    """
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3) or known[:3]
        raise InvalidModelError(
            f"torchvision:{name}: torchvision has no classification model of that name; for instance {', '.join(close)}"
        )
    if "aux_logits" in inspect.signature(torchvision.models.get_model_builder(name)).parameters:
        parameters = {"aux_logits": False, **parameters}
    network: nn.Module = torchvision.models.get_model(name, num_classes=class_count, **parameters)
    channels, height, width = image_shape
    if isinstance(network, torchvision.models.ResNet) and min(height, width) < SMALL_IMAGE_SIDE:
        network.conv1 = nn.Conv2d(channels, network.conv1.out_channels, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        network.maxpool = nn.Identity()
    _adapt_channels(network, channels)
    network.add_module("normalize", Normalize(channels, mean, std))
    network.__class__ = _normalizing(type(network))
    return mark_any_layout(network)


def _normalizing(architecture: type[nn.Module]) -> type[nn.Module]:
    """The same architecture, whose forward normalises first.

    In a wrapper the tensors would have other names than in torchvision's checkpoints, and the graph that is traced from
    a model has no hooks of the model itself.
    """
    if architecture in _with_normalisation:
        return _with_normalisation[architecture]

    def forward(self: nn.Module, images: Tensor) -> Any:
        return architecture.forward(self, self.get_submodule("normalize")(images))

    def reduce(self: nn.Module) -> tuple[Any, ...]:
        return _blank, (architecture,), self.__dict__

    members: dict[str, Any] = {"forward": forward, "__reduce__": reduce, "__module__": __name__}
    made = type(architecture.__name__, (architecture,), {**members, "__doc__": architecture.__doc__})
    _with_normalisation[architecture] = made
    return made


def _blank(architecture: type[nn.Module]) -> nn.Module:
    """An object without a state, for pickle and copy: neither finds a class that is made here by its name."""
    made = _normalizing(architecture)
    return made.__new__(made)


def _adapt_channels(network: nn.Module, channels: int) -> None:
    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            if module.in_channels == channels:
                return
            replacement = nn.Conv2d(
                channels,
                module.out_channels,
                (module.kernel_size[0], module.kernel_size[1]),
                stride=(module.stride[0], module.stride[1]),
                padding=module.padding if isinstance(module.padding, str) else (module.padding[0], module.padding[1]),
                bias=module.bias is not None,
            )
            parent, _, attribute = path.rpartition(".")
            setattr(network.get_submodule(parent), attribute, replacement)
            return
