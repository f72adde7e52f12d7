"""Server-side unlearning methods by name: what the server does round by round, one method a file."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.strategies.server_methods.base import MethodFailedError, MethodState, ServerMethod, ServerWork

__all__ = [
    "MethodFailedError",
    "MethodState",
    "ServerMethod",
    "ServerWork",
    "available",
    "create",
    "method_class",
    "register",
]

_BUILT_IN = ("retrain", "federaser", "projected_ascent", "fedosd")
_REGISTRY: dict[str, type[ServerMethod]] = {}

M = TypeVar("M", bound=ServerMethod)


def register(name: str) -> Callable[[type[M]], type[M]]:
    """Class decorator that makes a server-side method available by name.

    Raises
    ------
    InvalidParameterError
        If the name is taken, both classes are named; or if the class lacks what listings show.
    """

    def decorate(cls: type[M]) -> type[M]:
        missing = [attribute for attribute in ("paper", "scopes", "needs") if not hasattr(cls, attribute)]
        if missing:
            raise InvalidParameterError(
                f"server-side method {name!r}: {_described(cls)} has no {missing[0]!r}; every method has paper, scopes"
                " and needs"
            )
        if inspect.isabstract(cls):
            lacking = ", ".join(sorted(cls.__abstractmethods__))
            raise InvalidParameterError(f"server-side method {name!r}: {_described(cls)} does not implement {lacking}")
        if isinstance(cls.scopes, str):
            raise InvalidParameterError(
                f"server-side method {name!r}: scopes = {cls.scopes!r} of {_described(cls)}; expected a tuple of scopes"
            )
        taken = _REGISTRY.get(name)
        if taken is not None and taken is not cls:
            raise InvalidParameterError(
                f"server-side method name {name!r} is taken: {_described(taken)} and {_described(cls)} both register"
                " it; rename one"
            )
        cls.name = name
        _REGISTRY[name] = cls
        return cls

    return decorate


def available() -> dict[str, type[ServerMethod]]:
    """Every registered server-side method by its name, sorted."""
    for module in _BUILT_IN:
        import_module(f"{__name__}.{module}")
    return dict(sorted(_REGISTRY.items()))


def method_class(name: str) -> type[ServerMethod]:
    """The class of a server-side method.

    Raises
    ------
    InvalidParameterError
        If no method has that name; the known ones are listed.
    """
    methods = available()
    if name not in methods:
        raise InvalidParameterError(f"server-side method {name!r} is unknown; known are {', '.join(methods)}")
    return methods[name]


def create(name: str, **parameters: Any) -> ServerMethod:
    """A server-side method with the given hyper-parameters, the others at their defaults.

    Parameters
    ----------
    name : str
        For instance ``"federaser"``.
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
        has = f"it has {', '.join(sorted(known))}" if known else "it has none"
        raise InvalidParameterError(f"server-side method {name!r} has no parameter {unknown[0]!r}; {has}")
    return cls(**parameters)


def _described(cls: type[ServerMethod]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
