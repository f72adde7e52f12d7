"""The parameters that a method trains: all of the model, or those of its last layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from fed_unlearn.errors import InvalidModelError


@contextmanager
def trained_parameters(method: str, model: nn.Module, last_layers: int) -> Iterator[list[nn.Parameter]]:
    """Freeze all but the last layers. At the end every parameter gets its own ``requires_grad`` back.

    Parameters
    ----------
    method : str
        Name of the method, for the message.
    model : nn.Module
        The model. Its parameters must be registered in the order from input to output.
    last_layers : int
        Number of layers that stay trainable, counted from the output. Layers are modules whose weight has two or more
        dimensions, such as convolutions and linear layers. Their biases and the normalisation after them stay
        trainable too. 0, or more than there are, means all layers.

    Yields
    ------
    list of nn.Parameter
        The parameters to train, without those that the model itself has frozen.

    Raises
    ------
    InvalidModelError
        If there is no such parameter.
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
