"""What ``fed-unlearn methods --model NAME`` prints: the blocks of a model, which ``reset-and-relearn`` counts."""

from __future__ import annotations

import re

import torch
from rich.console import Console
from rich.text import Text

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.methods.parts.blocks import model_blocks
from fed_unlearn.models import build_model

_CLASSES = 10
_SHAPE = re.compile(r"(\d+)x(\d+)x(\d+)")


def print_blocks(name: str, image: str) -> None:
    """Print the names of a model's blocks from input to output; the last is the output layer.

    Parameters
    ----------
    name : str
        Name of the model as in a scenario, see :func:`~fed_unlearn.models.build_model`.
    image : str
        Channels, height and width, such as ``"1x8x8"``.

    Raises
    ------
    InvalidModelError
        If there is no such model, or it reads no such images.
    InvalidParameterError
        If the shape cannot be read.
    """
    found = _SHAPE.fullmatch(image)
    if found is None:
        raise InvalidParameterError(
            f"--image {image!r} was given; expected channels, height and width, such as 3x32x32"
        )
    channels, height, width = map(int, found.groups())
    shape = channels, height, width
    network = build_model(name, class_count=_CLASSES, image_shape=shape)
    blocks = [block.name for block in model_blocks(network, torch.zeros(1, *shape))]
    console = Console()
    console.print(Text(f"blocks of {name}", style="bold"))
    console.print(Text(", ".join(blocks)))
    console.print("the last is the output layer, and the first always stays", highlight=False)
    console.print()
