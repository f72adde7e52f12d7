"""Changes of models as dictionaries of arrays: what was changed, how far, and as much of it as is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_unlearn.arrays import Arrays

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def difference(model: Arrays, base: Arrays) -> Arrays:
    """``model`` minus ``base`` for trainable arrays: what a client changed, without normalisation statistics."""
    return {name: np.asarray(model[name] - base[name]) for name in _trainable(base)}


def norm(change: Mapping[str, NDArray[Any]]) -> float:
    """Euclidean norm over all arrays of a change."""
    return float(np.sqrt(sum(np.square(value, dtype=np.float64).sum() for value in change.values())))


def add_clipped(base: Arrays, changes: Sequence[Arrays], max_norm: float) -> Arrays:
    """Add the sum of changes to a model, each first scaled down to a norm.

    A deletion request must not be a way to plant a model: no holder moves the model further than a client did in
    ordinary training. Changes of several holders are summed, not averaged.

    Parameters
    ----------
    base : dict of ndarray
    changes : sequence of dict of ndarray
        From :func:`difference`.
    max_norm : float
        Upper bound on the norm of each change.
    """
    moved = dict(base)
    for change in changes:
        length = norm(change)
        scale = min(1.0, max_norm / length) if length > 0 else 1.0
        for name, value in change.items():
            moved[name] = as_dtype(np.asarray(moved[name] + scale * value), base[name].dtype)
    return moved


def all_finite(arrays: Arrays) -> bool:
    """Whether every number is finite."""
    return all(bool(np.isfinite(value).all()) for value in arrays.values())


def _trainable(arrays: Arrays) -> list[str]:
    return [
        name
        for name, value in arrays.items()
        if np.issubdtype(value.dtype, np.floating) and not name.endswith(_STATISTICS)
    ]


def as_dtype(value: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Values in another dtype, rounded where it holds whole numbers."""
    if np.issubdtype(dtype, np.integer) and not np.issubdtype(value.dtype, np.integer):
        value = np.rint(value)
    return np.asarray(value, dtype=dtype)
