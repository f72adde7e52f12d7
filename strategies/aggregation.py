"""Arithmetic on models as dictionaries of arrays: averages, clipped changes, norms."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median_low

import numpy as np

from fed_unlearn.arrays import Arrays
from fed_unlearn.changes import add_clipped, as_dtype, difference, norm
from fed_unlearn.errors import FedUnlearnError


def weighted_average(models: Sequence[Arrays], weights: Sequence[float]) -> Arrays:
    """Average of models, each weighted by its share of the total weight; integer arrays keep their dtype.

    Parameters
    ----------
    models : sequence of dict of ndarray
        At least one, all with the same names and shapes.
    weights : sequence of float
        At least 0, not all 0; here the holders' forget samples, or the clients' retained ones.

    Raises
    ------
    FedUnlearnError
        If no weight is above 0.
    """
    total = float(sum(weights))
    if total <= 0:
        raise FedUnlearnError("no model has a weight above 0; at least one client must hold a sample")
    averaged: Arrays = {}
    for name, first in models[0].items():
        summed = sum(
            np.asarray(model[name], dtype=np.float64) * (weight / total)
            for model, weight in zip(models, weights, strict=True)
        )
        averaged[name] = as_dtype(np.asarray(summed), first.dtype)
    return averaged


def with_dtypes_of(arrays: Arrays, reference: Arrays) -> Arrays:
    """The same values in the dtypes of a reference: aggregation turns integer buffers into floats."""
    return {name: as_dtype(value, reference[name].dtype) for name, value in arrays.items()}


def longest_usual(norms: Sequence[float], factor: float, usual: float | None = None) -> float:
    """Beyond this a change is absurdly long: a multiple of what is usual before and in its own round.

    Parameters
    ----------
    norms : sequence of float
        Of all changes of the round; of two medians the lower one counts, so that one client of two cannot set it.
    factor : float
        At least 1.
    usual : float or None
        Median norm of an earlier round; the larger one of both medians counts.

    Returns
    -------
    float
        Infinite where nothing tells what is usual: there is one change alone, or most are none.
    """
    middle = max(usual or 0.0, median_low(norms)) if len(norms) > 1 else 0.0
    return factor * middle if middle > 0 else float("inf")


def clipped(model: Arrays, base: Arrays, max_norm: float | None) -> Arrays:
    """A model whose change from another is scaled down to a norm where it is longer; itself where it is not.

    A model that is scaled down has the other one's statistics and counters: nothing bounds its own.
    """
    if max_norm is None:
        return model
    change = difference(model, base)
    return model if norm(change) <= max_norm else add_clipped(base, [change], max_norm)
