"""What a part of a model costs, in operations: passes through it count as this share of passes through the whole."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fed_unlearn.logits import evaluation_mode
from fed_unlearn.methods.parts.blocks import Division


def upper_share(model: nn.Module, division: Division, inputs: Tensor) -> float:
    """Share of the operations of a forward pass that the upper part of a divided model takes.

    Operations are multiplications and additions in convolutions, matrix products and recurrent layers. Others count
    nothing.

    Parameters
    ----------
    model : nn.Module
        The model. It stays as it is.
    division : Division
        The division of ``model``.
    inputs : Tensor of shape (n, ...)
        Inputs of at least one sample, as the model reads them.

    Returns
    -------
    float
        The share, in [0, 1]. It is 1 where nothing lies below the division, where the kept blocks are run anew in every
        pass, and where no operation of the model is counted.

    Examples
    --------
    >>> import torch
    >>> from fed_unlearn.methods.parts.blocks import divide
    >>> network = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    >>> upper_share(network, divide("docs", network, torch.zeros(1, 8), 0), torch.zeros(1, 8))
    0.2
    """
    if division.lower is None:
        return 1.0
    with evaluation_mode(model), evaluation_mode(division.lower), evaluation_mode(division.upper):
        below, activations = _counted(division.lower, inputs[:1])
        above, _ = _counted(division.upper, activations)
    return above / (below + above) if above else 1.0


@torch.no_grad()
def _counted(part: nn.Module, inputs: Tensor) -> tuple[int, Tensor]:
    """Operations of one forward pass, and what it puts out."""
    from torch.utils.flop_counter import FlopCounterMode

    recurrent = {torch.ops.aten.mkldnn_rnn_layer: _recurrent, torch.ops.aten._cudnn_rnn: _recurrent}
    with _slow_attention(), FlopCounterMode(display=False, custom_mapping=recurrent) as counter:
        outputs: Tensor = part(inputs)
    return counter.get_total_flops(), outputs


def _recurrent(inputs: Sequence[int], *others: Any, **named: Any) -> int:
    """Operations of a recurrent layer that is one call, from the shapes of its inputs and weights."""
    is_listed = others and others[0] and isinstance(others[0][0], Sequence)
    weights: Sequence[Sequence[int]] = others[0] if is_listed else others[:2]
    multiplications = sum(math.prod(shape) for shape in weights if len(shape) == 2)
    return 2 * math.prod(inputs[:-1]) * multiplications


@contextmanager
def _slow_attention() -> Iterator[None]:
    """Run attention layers step by step inside: the one call of the fast path is not counted."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
