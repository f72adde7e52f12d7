"""Which parameters a method trains: all that the model allows, or those of its last layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from fed_unlearn.errors import InvalidModelError


@contextmanager
def trained_parameters(method: str, model: nn.Module, last_layers: int) -> Iterator[list[nn.Parameter]]:
    """Let gradients reach the last layers only; afterwards every parameter's own setting is back.

    Parameters
    ----------
    method : str
        Whose, for the message.
    model : nn.Module
        Its parameters stand in the order from input to output.
    last_layers : int
        Layers with a weight of two or more dimensions, convolutions and linear ones, counted from the output; their
        biases and the normalisation after them are trained too. 0, or more than there are, for all.

    Yields
    ------
    list of nn.Parameter
        Those to be trained: none that the model itself has frozen.

    Raises
    ------
    InvalidModelError
        If none is left.
    """
    every = list(model.parameters())
    weights = [index for index, parameter in enumerate(every) if parameter.ndim >= 2]
    first = weights[-last_layers] if 0 < last_layers <= len(weights) else 0
    trained = [parameter for parameter in every[first:] if parameter.requires_grad]
    if not trained:
        part = f" in its last {last_layers} layers" if last_layers else ""
        raise InvalidModelError(f"{method}: the model has no parameter{part} that may be trained")
    frozen = [parameter for parameter in every[:first] if parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield trained
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
