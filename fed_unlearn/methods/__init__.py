"""Unlearning methods by name.

A method registers itself with :func:`register`; another package offers one through the entry point group
``fed_unlearn.methods``, whose entries name modules or classes that register on import.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, TypeVar

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.methods.base import Method, Outcome

__all__ = ["Method", "Outcome", "available", "create", "method_class", "register"]

_BUILT_IN = ("boundary_shrink", "boundary_expanding", "instance_wise", "mask_output")
_REGISTRY: dict[str, type[Method]] = {}
_ENTRY_POINT_GROUP = "fed_unlearn.methods"
_loaded = False

M = TypeVar("M", bound=Method)


def register(name: str) -> Callable[[type[M]], type[M]]:
    """Class decorator that makes a method available by name.

    Raises
    ------
    InvalidParameterError
        If the name is taken; both classes are named.
    """

    def decorate(cls: type[M]) -> type[M]:
        taken = _REGISTRY.get(name)
        if taken is not None and taken is not cls:
            raise InvalidParameterError(
                f"method name {name!r} is taken: {taken.__module__}.{taken.__qualname__} and"
                f" {cls.__module__}.{cls.__qualname__} both register it; rename one"
            )
        cls.name = name
        _REGISTRY[name] = cls
        return cls

    return decorate


def available() -> dict[str, type[Method]]:
    """Every registered method by its name, sorted; built-in ones and those of other packages."""
    global _loaded
    if not _loaded:
        _loaded = True
        for module in _BUILT_IN:
            import_module(f"fed_unlearn.methods.{module}")
        for entry_point in sorted(entry_points(group=_ENTRY_POINT_GROUP), key=lambda entry: entry.name):
            loaded = entry_point.load()
            if isinstance(loaded, type) and issubclass(loaded, Method):
                register(entry_point.name)(loaded)
    return dict(sorted(_REGISTRY.items()))


def method_class(name: str) -> type[Method]:
    """The class of a method.

    Raises
    ------
    InvalidParameterError
        If no method has that name; the known ones are listed.
    """
    methods = available()
    if name not in methods:
        raise InvalidParameterError(f"method {name!r} is unknown; known are {', '.join(methods)}")
    return methods[name]


def create(name: str, **parameters: Any) -> Method:
    """A method with the given hyper-parameters, the others at their defaults.

    Parameters
    ----------
    name : str
        For instance ``"boundary-shrink"``.
    **parameters
        Fields of the method's class.

    Raises
    ------
    InvalidParameterError
        If the method or a parameter is unknown, or a value is of the wrong type or out of range.
    """
    cls = method_class(name)
    known = {item.name for item in dataclasses.fields(cls)}
    unknown = sorted(set(parameters) - known)
    if unknown:
        raise InvalidParameterError(
            f"method {name!r} has no parameter {unknown[0]!r}; it has {', '.join(sorted(known))}"
        )
    return cls(**parameters)
