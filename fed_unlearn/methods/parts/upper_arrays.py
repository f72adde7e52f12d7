"""Which arrays of a model's state belong to the blocks that are drawn anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from torch import nn

from fed_unlearn.methods.parts.blocks import Block, module_or_none


@dataclass(frozen=True)
class UpperArrays:
    """The arrays of some blocks, by their names in the model's state, in its order.

    Attributes
    ----------
    names : tuple of str
        Names of all the arrays.
    frozen : tuple of str
        Names of the arrays that stay as they are: what the model itself has frozen, the statistics of frozen
        normalisation layers, and buffers that are no statistics, such as masks and temperatures.
    """

    names: tuple[str, ...]
    frozen: tuple[str, ...]


def upper_arrays(model: nn.Module, blocks: Sequence[Block]) -> UpperArrays:
    """The arrays of some blocks of a model.

    A tensor that stands in the model under several names counts under each.

    Parameters
    ----------
    model : nn.Module
        The model, without wrappers.
    blocks : sequence of Block
        Blocks of the model, from :func:`~fed_unlearn.methods.parts.blocks.divide`.
    """
    held = [(name, module_or_none(model, name)) for block in blocks for name in block.layers]
    modules = dict.fromkeys(inner for _, module in held if module is not None for inner in module.modules())
    used = {id(model.get_parameter(name)) for name, module in held if module is None}
    still = set[int]()
    for module in modules:
        parameters, buffers = list(module.parameters(recurse=False)), list(module.buffers(recurse=False))
        used |= set(map(id, parameters + buffers))
        has_statistics = isinstance(module, nn.modules.batchnorm._NormBase)
        if not has_statistics or (parameters and not any(parameter.requires_grad for parameter in parameters)):
            still |= set(map(id, buffers))
    still |= {id(parameter) for parameter in model.parameters() if not parameter.requires_grad}
    state = dict(chain(model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False)))
    names = [name for name in model.state_dict() if name in state and id(state[name]) in used]
    return UpperArrays(tuple(names), tuple(name for name in names if id(state[name]) in still))
