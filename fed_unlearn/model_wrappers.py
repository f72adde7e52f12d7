"""Wrappers around a model: torch.compile's, DataParallel's and DistributedDataParallel's, and the names they make."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

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


def names_by_wrapped(given: Iterable[str], expected: Iterable[str]) -> dict[str, str] | None:
    """Pair the tensors of two models whose names differ by wrappers alone.

    Parameters
    ----------
    given, expected : iterable of str
        Names of the tensors of two state dicts, such as ``module.0.weight`` and ``0.weight``.

    Returns
    -------
    dict of str to str or None
        The given name by the expected name, in the order of ``expected``. None if they differ by more than wrappers.
    """
    by_bare = {bare_name(name): name for name in given}
    wanted = {name: bare_name(name) for name in expected}
    if len(set(wanted.values())) < len(wanted) or by_bare.keys() != set(wanted.values()):
        return None
    return {name: by_bare[bare] for name, bare in wanted.items()}


def bare_name(name: str) -> str:
    """A tensor's name without wrappers. DataParallel is outermost; parts of a model may be compiled, too."""
    steps = [step for step in name.split(".") if step != _COMPILED]
    while len(steps) > 1 and steps[0] == _PARALLEL:
        steps.pop(0)
    return ".".join(steps)
