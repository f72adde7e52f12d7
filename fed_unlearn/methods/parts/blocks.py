"""The blocks of a model in the order in which inputs pass them, and its division between two of them.

A block is a layer with a weight and what follows it up to the next: normalisation, activation, dropout, pooling. Layers
that no cut (:mod:`fed_unlearn.methods.parts.tracing`) lies between are one block: a residual block, an encoder layer.
So are those of one module whose class occurs more than once, such as an inverted residual.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, fx, nn

from fed_unlearn.errors import InvalidModelError
from fed_unlearn.methods.parts.call_order import called_layers
from fed_unlearn.methods.parts.tracing import Traced, above, below, is_whole, traced
from fed_unlearn.model_wrappers import unwrapped


@dataclass(frozen=True)
class Block:
    """A part of a model that is reset as a whole.

    Attributes
    ----------
    name : str
        Name of the module that is the block, or of the block's first layer with a weight, as in
        ``model.named_modules()``.
    layers : tuple of str
        Names of its modules with parameters, and of parameters that no such module holds, in the order of their use.
    """

    name: str
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Division:
    """A model divided between two of its blocks.

    Attributes
    ----------
    kept, reset : tuple of Block
        The blocks below the division and above it, the head included.
    lower : nn.Module or None
        Module from the model's inputs to what the upper part reads. None if the upper part reads the model's inputs.
    upper : nn.Module
        Module from there to the logits. It shares the layers of the model, so that training it trains the model. It is
        the model itself where its computation cannot be traced; the kept blocks are then run anew in every pass.
    """

    kept: tuple[Block, ...]
    reset: tuple[Block, ...]
    lower: nn.Module | None
    upper: nn.Module


@dataclass(frozen=True)
class _Part:
    """A block that is being put together. Without a graph there is no cut."""

    cut: fx.Node | None
    layers: tuple[str, ...]
    weighted: str | None

    def __add__(self, other: _Part) -> _Part:
        return _Part(self.cut, self.layers + other.layers, self.weighted or other.weighted)


def model_blocks(model: nn.Module, inputs: Tensor) -> tuple[Block, ...]:
    """The blocks of a model, from input to output. The last is its head.

    Parameters
    ----------
    model : nn.Module
        The model. It stays as it is.
    inputs : Tensor of shape (n, ...)
        Inputs of at least one sample, as the model reads them; zeros will do.

    Returns
    -------
    tuple of Block

    Raises
    ------
    InvalidModelError
        If the model calls no layer with a weight.

    Examples
    --------
    >>> import torch
    >>> from fed_unlearn.models import build_model
    >>> network = build_model("small-cnn", class_count=10, image_shape=(1, 8, 8))
    >>> [block.name for block in model_blocks(network, torch.zeros(1, 1, 8, 8))]
    ['features.0', 'features.4', 'classifier']
    """
    model = unwrapped(model)
    _, parts = _found("blocks", model, inputs)
    return _named(model, parts)


def divide(user: str, model: nn.Module, inputs: Tensor, blocks: int) -> Division:
    """Divide a model below its last blocks and its head.

    Parameters
    ----------
    user : str
        Name of the method, for error messages.
    model : nn.Module
        The model, without wrappers.
    inputs : Tensor of shape (n, ...)
        Inputs of at least one sample, as the model reads them.
    blocks : int
        Number of blocks above the division, beside the head. At least one block stays below, if there is one beside
        the head.

    Raises
    ------
    InvalidModelError
        If the model calls no layer with a weight, or cannot be divided anywhere.
    """
    graph, parts = _found(user, model, inputs)
    if len(parts) == 1 and len(_wide(model, parts[0])) > 1:
        raise InvalidModelError(
            f"{user}: no point of {type(model).__name__} divides its layers into some that stay and some that are"
            " reset, because its first and its last layers share weights; expected a model that can be divided: untie"
            " them, or use a method that trains all layers, such as scrub"
        )
    first = max(min(1, len(parts) - 1), len(parts) - 1 - blocks)
    named, cut = _named(model, parts), parts[first].cut
    if graph is None or cut is None:
        return Division(named[:first], named[first:], None, model)
    lower = below(model, graph.graph, cut) if first else None
    return Division(named[:first], named[first:], lower, above(model, graph.graph, cut) if first else model)


def _found(user: str, model: nn.Module, inputs: Tensor) -> tuple[Traced | None, list[_Part]]:
    """The parts that a traced graph shows, or the order of calls where it shows no more than one beside the head."""
    graph = traced(model, inputs)
    parts = _parts(
        model, [_Part(each.cut, each.layers, each.weighted) for each in graph.segments] if graph is not None else []
    )
    if len(parts) < 3 and (not parts or len(_wide(model, parts[0])) > 1):
        called = called_layers(model, inputs[:1])
        by_calls = _parts(model, [_Part(None, (name,), name if is_wide else None) for name, is_wide in called])
        if len(by_calls) > len(parts):
            graph, parts = None, by_calls
    if not parts:
        raise InvalidModelError(
            f"{user}: {type(model).__name__} calls no layer with a weight, such as nn.Linear or nn.Conv2d; expected a"
            " model of layers: hold its weights in modules, or use a method that trains all parameters, such as scrub"
        )
    return graph, parts


def _parts(model: nn.Module, segments: Sequence[_Part]) -> list[_Part]:
    """Segments put together to blocks."""
    blocks: list[_Part] = []
    leading: list[_Part] = []  # what stands before the first layer with a weight
    for segment in segments:
        if segment.weighted is None and not blocks:
            leading.append(segment)
        elif segment.weighted is None:
            blocks[-1] += segment
        else:
            blocks.append(sum(leading, start=_Part(leading[0].cut, (), None)) + segment if leading else segment)
            leading = []
    return _disjoint(model, _whole_units(model, blocks))


def _whole_units(model: nn.Module, blocks: list[_Part]) -> list[_Part]:
    """Neighbours of one unit put together. The head stays alone."""
    units = [_unit(model, block.weighted or "") for block in blocks]
    joined: list[_Part] = []
    for index, block in enumerate(blocks):
        is_same = index and units[index] is not None and units[index] == units[index - 1]
        if is_same and index < len(blocks) - 1:
            joined[-1] += block
        else:
            joined.append(block)
    return joined


def _unit(model: nn.Module, layer: str) -> str | None:
    """Name of the outermost module around a layer that is one of several alike and no list of modules alike."""
    kinds = Counter(type(module) for module in model.modules() if _may_be_unit(module))
    names = layer.split(".")
    for depth in range(1, len(names)):
        name = ".".join(names[:depth])
        module = model.get_submodule(name)
        inner = Counter(type(each) for each in module.modules() if each is not module and _may_be_unit(each))
        if kinds[type(module)] > 1 and max(inner.values(), default=0) < 2:
            return name
    return None


def _may_be_unit(module: nn.Module) -> bool:
    is_list = isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict)
    return not is_list and not is_whole(module) and any(True for _ in module.parameters())


def _disjoint(model: nn.Module, blocks: list[_Part]) -> list[_Part]:
    """Blocks put together until no tensor is used both below and above the start of one."""
    joined, tensors = list(blocks), [_tensors(model, block) for block in blocks]
    for index in range(len(joined) - 1, 0, -1):
        if set().union(*tensors[:index]) & set().union(*tensors[index:]):
            joined[index - 1 : index + 1] = [joined[index - 1] + joined[index]]
    return joined


def _tensors(model: nn.Module, block: _Part) -> set[int]:
    """Identities of the parameters and buffers that a block uses."""
    found = set[int]()
    for name in block.layers:
        module = module_or_none(model, name)
        used = [model.get_parameter(name)] if module is None else [*module.parameters(), *module.buffers()]
        found |= set(map(id, used))
    return found


def module_or_none(model: nn.Module, name: str) -> nn.Module | None:
    """The module of a name; None if the name is a parameter's."""
    try:
        return model.get_submodule(name)
    except AttributeError:
        return None


def _wide(model: nn.Module, part: _Part) -> list[str]:
    """The layers of a block that have a weight of two or more dimensions."""
    modules = {name: module_or_none(model, name) for name in dict.fromkeys(part.layers)}
    return [
        name
        for name, module in modules.items()
        if module is not None and any(parameter.ndim > 1 for parameter in module.parameters())
    ]


def _named(model: nn.Module, parts: Sequence[_Part]) -> tuple[Block, ...]:
    named = []
    wide = [_wide(model, part) for part in parts]
    for index, part in enumerate(parts):
        first = part.weighted or part.layers[0]
        elsewhere = [layer for other in wide[:index] + wide[index + 1 :] for layer in other]
        choices = [_unit(model, first) or "", _common(part.layers), _common(wide[index])]
        name = next((each for each in choices if _holds(each, wide[index]) and not _reaches(each, elsewhere)), first)
        named.append(Block(name, tuple(dict.fromkeys(part.layers))))
    return tuple(named)


def _holds(module: str, layers: Sequence[str]) -> bool:
    return bool(module) and all(f"{layer}.".startswith(f"{module}.") for layer in layers)


def _reaches(module: str, layers: Sequence[str]) -> bool:
    return any(f"{layer}.".startswith(f"{module}.") for layer in layers)


def _common(names: Sequence[str]) -> str:
    """The name of the innermost module that holds all of these."""
    kept: list[str] = []
    for level in zip(*(name.split(".") for name in names), strict=False):
        if len(set(level)) > 1:
            break
        kept.append(level[0])
    return ".".join(kept)
