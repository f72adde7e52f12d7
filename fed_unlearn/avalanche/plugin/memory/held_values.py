"""Walks over everything that a strategy and its plug-ins hold, and names each place by its path."""

from __future__ import annotations

import inspect
import logging
import numbers
import types
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks.scenarios.generic_scenario import CLExperience, CLScenario, CLStream
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.core import BasePlugin
from avalanche.logging import BaseLogger
from avalanche.training.plugins import EvaluationPlugin
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

DEPTH = 8
"""Number of nested containers and objects that are entered."""

OBJECTS = 200_000
"""Number of containers, objects, tensors and arrays that are looked at in one walk."""

_OF_NOW = {"experience", "adapted_dataset", "dataloader", "mbatch", "mb_output", "current_eval_stream", "_eval_streams"}
"""Attributes that a strategy sets anew for each experience or batch."""

_OTHERS = {"plugins", "evaluator", "optimizer", "loss", "unlearn"}
"""Attributes of a strategy that are no memory, or are entered on their own."""

_CLOSED = (
    *(AvalancheDataset, CLScenario, CLStream, CLExperience, EvaluationPlugin, BaseLogger, Optimizer, nn.Parameter),
    *(str, bytes, numbers.Number, type, logging.Logger, torch.Generator, torch.device, torch.dtype),
    *(types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.ModuleType, np.random.Generator),
)
"""Kinds of values that hold no memory of their own: data sets with ids are purged, and benchmarks hold their data."""

_SEQUENCES = (list, tuple, deque, set, frozenset)
_CONTAINERS = (*_SEQUENCES, Mapping)


@dataclass(frozen=True)
class Held:
    """A tensor, an array, a mapping or a container of plain values, and where it was found.

    Attributes
    ----------
    path : str
        The place, such as ``strategy.mem[3][0]``.
    attribute : str
        The attribute that the path begins with, such as ``strategy.mem``.
    value : Tensor, ndarray, mapping, or other container of text and numbers
        What was found.
    above : tuple of (object, key)
        The containers and objects around it from the inside, each with the key or name that leads on.
    """

    path: str
    attribute: str
    value: Any
    above: tuple[tuple[Any, Any], ...]


class Walk:
    """One walk over a strategy and its plug-ins.

    Parameters
    ----------
    strategy : SupervisedTemplate
        The strategy. Nothing is changed.
    without : collection of objects
        Objects that are not entered.

    Attributes
    ----------
    complete : bool
        Whether nothing was left out because a bound was reached. It is known after the walk.
    """

    def __init__(self, strategy: Any, without: Collection[Any] = ()) -> None:
        self.complete = True
        self._strategy = strategy
        self._without = {id(item): item for item in without}
        self._met = dict(self._without)

    def __iter__(self) -> Iterator[Held]:
        """Yield each tensor, array, mapping and container of plain values once."""
        strategy = self._strategy
        roots = [("strategy", strategy), *_named(strategy.plugins)]
        self._met.update({id(root): root for _, root in roots})
        for name, root in roots:
            if id(root) in self._without or isinstance(root, _CLOSED) or _is_ours(root):
                continue
            for key, value in _attributes(root):
                if root is not strategy or key not in _OF_NOW | _OTHERS:
                    path = f"{name}.{key}"
                    yield from self._below(value, path, path, ((root, key),), DEPTH)

    def _below(
        self, value: Any, path: str, attribute: str, above: tuple[tuple[Any, Any], ...], depth: int
    ) -> Iterator[Held]:
        if value is None or isinstance(value, _CLOSED) or id(value) in self._met or _is_ours(value):
            return
        if depth == 0 or len(self._met) >= OBJECTS:
            self.complete = False
            return
        self._met[id(value)] = value  # also keeps it alive, so that no other object gets its id
        if isinstance(value, Tensor) or (isinstance(value, np.ndarray) and value.dtype != object):
            yield Held(path, attribute, value, above)
            return
        if isinstance(value, Mapping) or _is_plain(value):
            yield Held(path, attribute, value, above)
        if _is_plain(value):
            return
        for key, item in _items(value):
            step = f".{key}" if not isinstance(value, (*_CONTAINERS, np.ndarray)) else f"[{key!r}]"
            yield from self._below(item, path + step, attribute, ((value, key), *above), depth - 1)


def _named(plugins: Collection[Any]) -> list[tuple[str, Any]]:
    """Return plug-ins with the names of their classes. A second one of a class is numbered."""
    counts: dict[str, int] = {}
    named: list[tuple[str, Any]] = []
    for plugin in plugins:
        name = type(plugin).__name__
        counts[name] = counts.get(name, 0) + 1
        named.append((name if counts[name] == 1 else f"{name}#{counts[name]}", plugin))
    return named


def _is_ours(value: Any) -> bool:
    """Return whether this is a plug-in of this library, which knows forgotten samples by intent."""
    return isinstance(value, BasePlugin) and type(value).__module__.startswith("fed_unlearn.")


def _is_plain(value: Any) -> bool:
    """Return whether this is a container of text and numbers only, which need not be entered."""
    if not isinstance(value, _CONTAINERS):
        return False
    items = value.values() if isinstance(value, Mapping) else value
    return all(isinstance(item, str | int | float | None) for item in items)


def _items(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, _SEQUENCES):
        return list(enumerate(value))
    if isinstance(value, np.ndarray):
        return list(enumerate(value.flat))
    return _attributes(value)


def _attributes(value: Any) -> list[tuple[str, Any]]:
    """Return the attributes of an object, the locals of a generator that stands still, or the data set of a loader."""
    if isinstance(value, types.GeneratorType):
        return list(inspect.getgeneratorlocals(value).items()) if not value.gi_running else []
    if isinstance(value, DataLoader):
        return [("dataset", value.dataset)]
    found = dict(getattr(value, "__dict__", {}))
    if isinstance(value, nn.Module):
        found.pop("_parameters", None)
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                found.setdefault(name, getattr(value, name))
    return list(found.items())
