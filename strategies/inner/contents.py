"""What lies in a value: containers and objects are looked into, and parts of them exchanged."""

from __future__ import annotations

import copy
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any, Final

import numpy as np
from flwr.app import ArrayRecord, Message
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from numpy.lib.npyio import NpzFile
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from fed_unlearn.errors import FedUnlearnError

_PLAIN: Final = (bool, int, float, complex, str, bytes, type(None))
_WHOLE: Final = (
    *(ArrayRecord, Tensor, np.ndarray, np.generic, Optimizer, DataLoader, Dataset),
    *(Strategy, Grid, NpzFile, logging.Logger, logging.Handler, threading.Thread, Enum),
    *(type, ModuleType, FunctionType, BuiltinFunctionType, MethodType, partial),
)
_LIBRARIES: Final = sys.stdlib_module_names | {"torch", "numpy", "flwr", "fed_unlearn"}
MOST_LEVELS: Final = 8
"""Maximum depth to which objects within objects are searched."""

_MOST_PARTS = 100_000

Path = tuple[str, ...]


class TooMuchError(FedUnlearnError):
    """More lies in a value than is looked through."""


def parts(value: Any) -> list[tuple[Any, Any]]:
    """What lies directly in a container, or in an object of the user's own, by key or name; nothing for all others."""
    if isinstance(value, _WHOLE):
        return []
    if isinstance(value, nn.Module):
        return list(value.named_children())
    if isinstance(value, Message):
        return [("content", value.content)] if value.has_content() else []
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, list | tuple | deque):
        return list(enumerate(value))
    found: dict[str, Any] = {}
    if is_dataclass(value):
        found |= {field.name: getattr(value, field.name) for field in fields(value) if hasattr(value, field.name)}
    if is_dataclass(value) or isinstance(value, SimpleNamespace) or is_own_class(type(value)):
        found |= getattr(value, "__dict__", {})
    return list(found.items())


def with_parts(value: Any, changed: Mapping[Any, object]) -> object:
    """A value with other parts: itself where it can be changed, else a new one of its type."""
    if isinstance(value, tuple):
        items = [changed.get(number, item) for number, item in enumerate(value)]
        return value._make(items) if hasattr(value, "_make") else type(value)(items)
    if isinstance(value, Mapping | list | deque):
        if hasattr(value, "__setitem__"):
            for key, part in changed.items():
                value[key] = part
            return value
        return type(value)({**value, **changed})  # type: ignore[call-arg]
    if not _is_frozen(value):
        try:
            for name, part in changed.items():
                setattr(value, name, part)
            return value
        except (AttributeError, TypeError, ValueError):  # it cannot be changed after all
            pass
    copied = copy.copy(value)
    for name, part in changed.items():
        object.__setattr__(copied, name, part)
    return copied


def walk(value: object, path: Path, visit: Callable[[Path, object], bool], failed: list[Exception]) -> None:
    """Visit a value and all that lies in it, to a bounded depth and a bounded number.

    Parameters
    ----------
    value : object
    path : tuple of str
        Keys that lead to the value.
    visit : callable
        Given the keys that lead to something, and the thing; returns whether what lies in that is left out.
    failed : list of Exception
        Gets what a value of the user's own raises. Its parts are left out, and the others are visited.
    """
    _Walk(visit, failed).go(value, path, frozenset())


class _Walk:
    def __init__(self, visit: Callable[[Path, object], bool], failed: list[Exception]) -> None:
        self._visit, self._failed, self._left = visit, failed, _MOST_PARTS

    def go(self, value: object, path: Path, within: frozenset[int]) -> None:
        if type(value) in _PLAIN or id(value) in within:
            return
        if len(within) > MOST_LEVELS:
            if parts(value):
                self._failed.append(TooMuchError(f"things lie in it deeper than {MOST_LEVELS} levels"))
            return
        self._left -= 1
        try:
            if self._visit(path, value):
                return
            inside = [(str(key), part) for key, part in parts(value) if type(part) not in _PLAIN]
            if len(inside) > self._left:
                raise TooMuchError(f"more than {_MOST_PARTS} parts lie in it")
        except Exception as error:  # whatever an object of the user's own raises
            self._failed.append(error)
            return
        for key, part in inside:
            self.go(part, (*path, key), within | {id(value)})


def is_own_class(cls: type) -> bool:
    """Whether a class is neither Python's nor of a library that this one builds on."""
    return cls.__module__.partition(".")[0] not in _LIBRARIES


def _is_frozen(value: Any) -> bool:
    parameters = getattr(type(value), "__dataclass_params__", None)
    return parameters is not None and bool(parameters.frozen)
