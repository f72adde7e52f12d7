"""Wrappers around a model: torch.compile's, DataParallel's and DistributedDataParallel's, and the names they make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

Value = TypeVar("Value")

_COMPILED, _PARALLEL = "_orig_mod", "module"


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside all wrappers. The model itself if it has none."""
    while True:
        if isinstance(model, DataParallel | DistributedDataParallel):
            model = model.module
        elif _COMPILED in model._modules:
            model = model.get_submodule(_COMPILED)
        else:
            return model


def renamed(values: Mapping[str, Value], names: Iterable[str]) -> dict[str, Value]:
    """Values of a model's tensors under the names of the same model with other wrappers.

    Parameters
    ----------
    values : mapping of str to object
        By the names of a state dict, such as ``module.0.weight``.
    names : iterable of str
        The names of the same tensors in another state dict, such as ``0.weight``.

    Returns
    -------
    dict of str to object
        The values under ``names`` and in their order. As they were given, if the names are the same or differ by more
        than wrappers.
    """
    wanted = {name: bare_name(name) for name in names}
    by_bare = {bare_name(name): value for name, value in values.items()}
    fits = len(by_bare) == len(values) == len(wanted) and by_bare.keys() == set(wanted.values())
    if not fits or wanted.keys() == values.keys():
        return dict(values)
    return {name: by_bare[bare] for name, bare in wanted.items()}


def bare_name(name: str) -> str:
    """A tensor's name without wrappers. DataParallel is outermost; parts of a model may be compiled, too."""
    steps = [step for step in name.split(".") if step != _COMPILED]
    while len(steps) > 1 and steps[0] == _PARALLEL:
        steps.pop(0)
    return ".".join(steps)
