"""Which arrays a model has, by name and shape, and how two lists of them differ, in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from fed_unlearn.text import printable
from fed_unlearn.wrapped_names import differ_by_wrappers

Shapes = dict[str, tuple[int, ...]]

_MOST_NAMED = 3
_LONGEST_NAME = 80


class _Shaped(Protocol):
    @property
    def shape(self) -> tuple[int, ...]: ...


def shapes_of(arrays: Mapping[str, _Shaped]) -> Shapes:
    """The shape of each array or tensor, by name."""
    return {name: tuple(array.shape) for name, array in arrays.items()}


def misfit(given: Shapes, expected: Shapes) -> str | None:
    """How some arrays differ from the expected ones, such as ``lacks 'fc.weight'``; None where they fit."""
    if differ_by_wrappers(given, expected):
        other_name, name = (quoted_name(sorted(names)[0]) for names in (given, expected))
        return (
            f"has {other_name} in place of {name} and differs by the prefix of a wrapper alone (send the state of the"
            " model inside DataParallel or torch.compile, model.module or model._orig_mod)"
        )
    lacks = [quoted_name(name) for name in expected if name not in given]
    more = [quoted_name(name) for name in given if name not in expected]
    other = [
        f"{quoted_name(name)} of shape {given[name]} in place of {shape}"
        for name, shape in expected.items()
        if name in given and given[name] != shape
    ]
    parts = [
        f"{words} {_listed(names)}" for words, names in (("lacks", lacks), ("has also", more), ("has", other)) if names
    ]
    return " and ".join(parts) or None


def quoted_name(name: str) -> str:
    """The name of an array for a message, cut where it is long: it may be anybody's."""
    return f"'{printable(name, _LONGEST_NAME)}'"


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
