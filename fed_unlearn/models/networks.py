"""The library's own networks: a small CNN for federated experiments, and AllCNN."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.model_inputs import mark_any_layout

POOLED_SIDE = 4  # side of the grid to which SmallCNN pools
LAST_MAP_SIDE = 16  # longest side of the maps that SmallCNN's last convolution reads
LARGE_SIDE = 64  # SmallCNN's first convolution halves images with a longer side, because most of the work is there
NARROW, WIDE = 96, 192  # channels of AllCNN's convolutions at full width, before the first stride and after it


class Normalize(nn.Module):
    """Map pixels in [0, 1] to ``(pixels - mean) / std``.

    The buffers are not persistent, so that a checkpoint holds weights only.

    Parameters
    ----------
    channels : int
        Number of channels.
    mean, std : float or sequence of float, default 0.5
        One value for all channels, or one for each. ``std`` must be above 0.

    Attributes
    ----------
    mean, std : Tensor of shape (1, channels, 1, 1)
        The values of each channel.

    Raises
    ------
    InvalidParameterError
        If the number of values is not that of the channels, or a ``std`` is not above 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, mean: float | Sequence[float] = 0.5, std: float | Sequence[float] = 0.5) -> None:
        super().__init__()
        for name, given in (("mean", mean), ("std", std)):
            values = list(given) if isinstance(given, Sequence) else [given] * channels
            if len(values) != channels:
                raise InvalidParameterError(f"{name}: {len(values)} values were given for {channels} channels")
            if name == "std" and min(values) <= 0:
                raise InvalidParameterError(f"std: {min(values)} was given; expected values above 0")
            tensor = torch.tensor(values, dtype=torch.float32).reshape(1, channels, 1, 1)
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise a batch (n, channels, height, width)."""
        return (images - self.mean) / self.std


class SmallCNN(nn.Module):
    """A CNN without batch statistics, small enough for many clients on one CPU thread.

    It has two convolutions for images of up to 32 pixels a side, and one more for every doubling. Each is followed by
    GroupNorm and ReLU, and all but the last by 2x2 max pooling. Then come pooling to a 4x4 grid and one linear layer.
    Above 64 pixels the first convolution has stride 2. The statistics of BatchNorm do not average well over non-IID
    clients, so there is none.

    Parameters
    ----------
    class_count : int
        Number of logits.
    image_shape : tuple of int
        Channels, height and width of the images.
    width : int, default 16
        Channels of the first convolution. The others have twice as many.
    mean, std : float or sequence of float, default 0.5
        Pixel normalisation, as in :class:`Normalize`.

    Raises
    ------
    InvalidParameterError
        If ``width`` is below 1.
    """

    def __init__(
        self,
        class_count: int,
        image_shape: tuple[int, int, int],
        width: int = 16,
        mean: float | Sequence[float] = 0.5,
        std: float | Sequence[float] = 0.5,
    ) -> None:
        super().__init__()
        if width < 1:
            raise InvalidParameterError(f"width: {width} was given; expected at least 1 channel")
        channels, *sides = image_shape
        stride = 2 if max(sides) > LARGE_SIDE else 1
        layers = [*_group_convolution(channels, width, stride), nn.MaxPool2d(2, ceil_mode=True)]
        side = -(-max(sides) // (2 * stride))
        incoming = width
        while side > LAST_MAP_SIDE:
            layers += [*_group_convolution(incoming, 2 * width), nn.MaxPool2d(2, ceil_mode=True)]
            incoming = 2 * width
            side = -(-side // 2)
        layers += [*_group_convolution(incoming, 2 * width), nn.AdaptiveAvgPool2d(POOLED_SIDE)]
        self.normalize = Normalize(channels, mean, std)
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(2 * width * POOLED_SIDE**2, class_count)
        mark_any_layout(self)

    @classmethod
    def parameters_from(cls, shapes: Mapping[str, Sequence[int]]) -> dict[str, object]:
        """Parameters of the network whose tensors have these shapes.

        Parameters
        ----------
        shapes : mapping of str to sequence of int
            Shapes of the tensors of a state dict, by name.

        Returns
        -------
        dict of str to object
            ``width``. Empty if the shapes are not those of such a network. Shapes do not determine the pixel
            normalisation.
        """
        first = shapes.get("features.0.weight", ())
        return {"width": first[0]} if len(first) == 4 else {}

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, classes) of images (n, channels, height, width) in [0, 1]."""
        logits: Tensor = self.classifier(self.features(self.normalize(images)).flatten(1))
        return logits


def _group_convolution(incoming: int, outgoing: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(incoming, outgoing, 3, stride=stride, padding=1, bias=False)
    return [convolution, nn.GroupNorm(math.gcd(8, outgoing), outgoing), nn.ReLU()]


def _convolution(incoming: int, outgoing: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(incoming, outgoing, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outgoing), nn.ReLU())


class AllCNN(nn.Module):
    """All-CNN with BatchNorm (Springenberg et al., 2015), as the unlearning literature uses it.

    It has eight convolutions, two of them with stride 2, global average pooling and a linear layer. The names of the
    tensors are those of the published unlearning code: ``features.0.0.weight`` to ``classifier.0.bias``.

    Parameters
    ----------
    class_count : int
        Number of logits.
    image_shape : tuple of int
        Channels, height and width of the images.
    width : float, default 1.0
        Factor on the 96 and 192 channels of the paper.
    dropout : float, default 0.0
        Dropout rate after the third and the sixth convolution.
    mean, std : float or sequence of float, default 0.5
        Pixel normalisation, as in :class:`Normalize`.

    Raises
    ------
    InvalidParameterError
        If ``width`` leaves no channel.
    """

    def __init__(
        self,
        class_count: int,
        image_shape: tuple[int, int, int],
        width: float = 1.0,
        dropout: float = 0.0,
        mean: float | Sequence[float] = 0.5,
        std: float | Sequence[float] = 0.5,
    ) -> None:
        super().__init__()
        channels = image_shape[0]
        narrow, wide = int(NARROW * width), int(WIDE * width)
        if narrow < 1:
            raise InvalidParameterError(f"width: {width} was given; expected a factor that leaves at least 1 channel")
        self.normalize = Normalize(channels, mean, std)
        self.features = nn.Sequential(
            _convolution(channels, narrow),
            _convolution(narrow, narrow),
            _convolution(narrow, wide, stride=2),
            nn.Dropout(dropout) if dropout else nn.Identity(),
            _convolution(wide, wide),
            _convolution(wide, wide),
            _convolution(wide, wide, stride=2),
            nn.Dropout(dropout) if dropout else nn.Identity(),
            _convolution(wide, wide),
            _convolution(wide, wide, kernel=1),
            nn.AdaptiveAvgPool2d(1),
        )
        self.classifier = nn.Sequential(nn.Linear(wide, class_count))
        mark_any_layout(self)

    @classmethod
    def parameters_from(cls, shapes: Mapping[str, Sequence[int]]) -> dict[str, object]:
        """Parameters of the network whose tensors have these shapes, as in :meth:`SmallCNN.parameters_from`.

        Shapes do not determine ``dropout`` and the pixel normalisation.
        """
        first, last = (shapes.get(name, ()) for name in ("features.0.0.weight", "classifier.0.weight"))
        if len(first) != 4 or len(last) != 2:
            return {}
        # Numbers of channels are rounded down, so several factors give the same network. The roundest is tried first.
        for width in (last[1] / WIDE, (last[1] + 0.5) / WIDE):
            if (int(NARROW * width), int(WIDE * width)) == (first[0], last[1]):
                return {"width": width}
        return {}

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, classes) of images (n, channels, height, width) in [0, 1]."""
        logits: Tensor = self.classifier(self.features(self.normalize(images)).flatten(1))
        return logits
