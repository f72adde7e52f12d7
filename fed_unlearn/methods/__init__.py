"""Unlearning methods by name.

A method registers itself with :func:`register`; another package offers one through the entry point group
``fed_unlearn.methods``, whose entries name modules that register on import, or classes. An entry that cannot be
imported stands in nobody's way: it is an error only where its method is asked for.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, TypeVar

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.methods.base import Method, Outcome

__all__ = [
    "Method",
    "Outcome",
    "available",
    "create",
    "distribution_of",
    "method_class",
    "register",
    "unavailable",
]

_BUILT_IN = (
    "boundary_shrink",
    "boundary_expanding",
    "instance_wise",
    "finetune",
    "random_label",
    "negative_gradient_plus",
    "scrub",
    "bad_teacher",
    "selective_dampening",
    "saliency",
    "delete",
    "mask_output",
    "projected_ascent",
    "unlearning_cross_entropy",
)
_REGISTRY: dict[str, type[Method]] = {}
_ENTRY_POINT_GROUP = "fed_unlearn.methods"
_DISTRIBUTIONS: dict[str, str] = {}  # of the methods that came through an entry point
_UNAVAILABLE: dict[str, str] = {}
_CONFLICTS: list[str] = []
_loaded = False
_loading: str | None = None  # distribution of the entry point that is being imported

M = TypeVar("M", bound=Method)


class _NameTakenError(InvalidParameterError):
    pass


def register(name: str) -> Callable[[type[M]], type[M]]:
    """Class decorator that makes a method available by name.

    Raises
    ------
    InvalidParameterError
        If the name is taken, both classes are named; or if the class lacks what listings show.
    """

    def decorate(cls: type[M]) -> type[M]:
        missing = [attribute for attribute in ("paper", "scopes", "needs") if not hasattr(cls, attribute)]
        if missing:
            raise InvalidParameterError(
                f"method {name!r}: {_described(cls, _loading)} has no {missing[0]!r}; every method has paper, scopes"
                " and needs"
            )
        if inspect.isabstract(cls):
            lacking = ", ".join(sorted(cls.__abstractmethods__))
            raise InvalidParameterError(f"method {name!r}: {_described(cls, _loading)} does not implement {lacking}")
        if isinstance(cls.scopes, str):
            raise InvalidParameterError(
                f"method {name!r}: scopes = {cls.scopes!r} of {_described(cls, _loading)}; expected a tuple of scopes"
            )
        taken = _REGISTRY.get(name)
        if taken is not None and taken is not cls:
            raise _NameTakenError(
                f"method name {name!r} is taken: {_described(taken, _DISTRIBUTIONS.get(name))} and"
                f" {_described(cls, _loading)} both register it; rename one, or uninstall its distribution"
            )
        cls.name = name
        _REGISTRY[name] = cls
        if _loading is not None:
            _DISTRIBUTIONS[name] = _loading
        return cls

    return decorate


def available() -> dict[str, type[Method]]:
    """Every registered method by its name, sorted; built-in ones and those of other packages.

    Raises
    ------
    InvalidParameterError
        If two packages, or a package and this one, give two methods one name; both are named.
    """
    _load()
    if _CONFLICTS:
        raise InvalidParameterError(_CONFLICTS[0])
    return dict(sorted(_REGISTRY.items()))


def unavailable() -> dict[str, str]:
    """Entry points of other packages that cannot be imported: by name, what is wrong in one sentence."""
    _load()
    return dict(sorted(_UNAVAILABLE.items()))


def distribution_of(name: str) -> str | None:
    """The installed distribution whose entry point gives a method; None for built-in methods and unknown names."""
    _load()
    return _DISTRIBUTIONS.get(name)


def _load() -> None:
    global _loaded
    if _loaded:
        return
    for module in _BUILT_IN:
        import_module(f"fed_unlearn.methods.{module}")
    _loaded = True
    for entry_point in sorted(entry_points(group=_ENTRY_POINT_GROUP), key=lambda entry: (entry.name, entry.value)):
        _load_entry_point(entry_point)


def _load_entry_point(entry_point: EntryPoint) -> None:
    global _loading
    _loading = entry_point.dist.name if entry_point.dist is not None else "unknown"
    registered = set(_REGISTRY)
    try:
        loaded = entry_point.load()
        if isinstance(loaded, type) and issubclass(loaded, Method):
            if loaded not in _REGISTRY.values():  # its module may have registered it already
                register(entry_point.name)(loaded)
        elif not isinstance(loaded, ModuleType):
            raise TypeError(f"{loaded!r} is neither a module nor a class of methods")
        return
    except _NameTakenError as error:
        _CONFLICTS.append(str(error))
    except Exception as error:  # whatever another package does on import
        _UNAVAILABLE[entry_point.name] = (
            f"entry point {entry_point.name!r} ({entry_point.value}) of distribution {_loading!r} cannot be loaded"
            f" ({type(error).__name__}: {error}); update or uninstall {_loading}"
        )
    finally:
        _loading = None
    for name in set(_REGISTRY) - registered:  # of a module that failed half-way
        del _REGISTRY[name]
        _DISTRIBUTIONS.pop(name, None)


def _described(cls: type[Method], distribution: str | None) -> str:
    described = f"{cls.__module__}.{cls.__qualname__}"
    return described if distribution is None else f"{described} of distribution {distribution!r}"


def method_class(name: str) -> type[Method]:
    """The class of a method.

    Raises
    ------
    InvalidParameterError
        If no method has that name, the known ones are listed; or if it is that of an entry point that cannot be
        imported.
    """
    methods = available()
    if name in methods:
        return methods[name]
    if name in _UNAVAILABLE:
        raise InvalidParameterError(f"method {name!r}: {_UNAVAILABLE[name]}")
    missing = f"; entry points {', '.join(sorted(_UNAVAILABLE))} cannot be loaded" if _UNAVAILABLE else ""
    raise InvalidParameterError(f"method {name!r} is unknown; known are {', '.join(methods)}{missing}")


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
