"""Names of a model's tensors with and without the prefixes of wrappers, DataParallel's and torch.compile's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

Value = TypeVar("Value")

COMPILED, PARALLEL = "_orig_mod", "module"


def bare_name(name: str) -> str:
    """A tensor's name without wrappers. DataParallel is outermost; parts of a model may be compiled, too."""
    steps = [step for step in name.split(".") if step != COMPILED]
    while len(steps) > 1 and steps[0] == PARALLEL:
        steps.pop(0)
    return ".".join(steps)


def differ_by_wrappers(given: Iterable[str], expected: Iterable[str]) -> bool:
    """Whether two lists of names are those of one model in other wrappers, such as ``module.0.bias`` and ``0.bias``."""
    given, expected = set(given), set(expected)
    bare = {bare_name(name) for name in given}
    return given != expected and len(bare) == len(given) == len(expected) and bare == set(map(bare_name, expected))


def renamed(values: Mapping[str, Value], names: Iterable[str]) -> dict[str, Value]:
    """Values of a model's tensors under the names of the same model with other wrappers.

    Parameters
    ----------
    values : mapping of str to object
        Values by the names of a state dict, such as ``module.0.weight``.
    names : iterable of str
        The names of the same tensors in another state dict, such as ``0.weight``.

    Returns
    -------
    dict of str to object
        The values under ``names`` and in their order. As they were given, if the names are the same or differ by more
        than wrappers.
    """
    names = list(names)
    if not differ_by_wrappers(values, names):
        return dict(values)
    by_bare = {bare_name(name): value for name, value in values.items()}
    return {name: by_bare[bare_name(name)] for name in names}
