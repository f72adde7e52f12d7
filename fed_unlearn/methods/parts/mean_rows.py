"""Rows of an output layer that say nothing of their classes: the mean of the other classes' rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.utils import parametrize

from fed_unlearn.arrays import as_array
from fed_unlearn.errors import InvalidModelError
from fed_unlearn.methods.parts.heads import OutputLayer
from fed_unlearn.output_rows import mean_row


@torch.no_grad()
def take_mean_rows(user: str, layer: OutputLayer, classes: Sequence[int]) -> None:
    """Give some classes the mean of the other classes' rows and biases, in place.

    The logit of such a class is the mean of the others' logits, so that it is never the largest.

    Parameters
    ----------
    user : str
        Name of the method, for the message.
    layer : nn.Linear or nn.Conv2d
        The output layer, from :func:`~fed_unlearn.methods.parts.heads.find_head`. Parametrised weights are set through
        their parametrisation.
    classes : sequence of int
        Classes that get the mean row. At least one other class is left.

    Raises
    ------
    InvalidModelError
        If the weights are frozen, or cannot be set.
    """
    count = len(layer.weight)
    others = [label for label in range(count) if label not in set(classes)]
    for name in ("weight", "bias"):
        tensor = getattr(layer, name)
        if tensor is None:
            continue
        rows = tensor.detach().clone()
        mean = mean_row(as_array(rows), others)
        rows[list(classes)] = torch.from_numpy(mean).to(rows)
        _set(user, layer, name, rows)


def _set(user: str, layer: OutputLayer, name: str, rows: torch.Tensor) -> None:
    own = layer._parameters.get(name)
    if own is not None and own.requires_grad:
        own.copy_(rows)
        return
    if own is None and parametrize.is_parametrized(layer, name):
        try:
            setattr(layer, name, rows)
            return
        except (NotImplementedError, RuntimeError, ValueError):
            pass
    state = "is frozen" if isinstance(own, nn.Parameter) else "cannot be set"
    raise InvalidModelError(
        f"{user}: the {name} of the output layer {state}; expected a layer whose rows can be changed: let it be"
        " trained, or take its parametrisation off"
    )
