"""Bounds on what no norm bounds: the BatchNorm statistics and the counters in clients' models."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from statistics import median_low
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_unlearn.arrays import COUNTER, MEAN, VARIANCE, Arrays, as_dtype, norm, untrained

logger = logging.getLogger("fed_unlearn.strategies")

MOST_BATCHES = 2**31
"""A client that says that it has seen more batches since the model was sent is not believed."""
_LONGEST_BESIDE_OTHERS = 1.5  # times the longest of the others
_MOST_STANDARD_DEVIATIONS, _MOST_TIMES = 1.0, 4.0  # of the served statistics, where no others tell what is usual


def impossible_statistic(name: str, value: NDArray[Any], sent: NDArray[Any]) -> str | None:
    """Why an array cannot be a statistic of BatchNorm; None where it can, or is none.

    Parameters
    ----------
    name : str
        Name of the array.
    value, sent : ndarray
        The array of a client's model, finite, and that of the model that it was sent.
    """
    if name.endswith(VARIANCE) and bool((value < 0).any()):
        return f"its array {name!r} has variances below 0"
    if name.endswith(COUNTER) and bool(((value < 0) | (value > sent + MOST_BATCHES)).any()):
        return f"its array {name!r} is no number of batches that it can have seen"
    return None


def bounded_statistics(
    models: Mapping[str, Arrays], base: Arrays, factor: float, *, alone: bool = False
) -> dict[str, Arrays]:
    """Models whose statistics are no further from a model than a multiple of what is usual in their round.

    What is usual is told by the clients: for each array the lower median of how far they moved it. None may move it
    much further than all others either. Where there is no majority, since there are two clients at most and the median
    is 0, the served statistics tell it: a mean may move by one standard deviation and a variance to between a quarter
    and four times itself. Clients beyond the multiple are named in the log.

    Parameters
    ----------
    models : mapping of str to dict of ndarray
        Models by client.
    base : dict of ndarray
        The model that the clients were sent.
    factor : float
        The multiple, at least 1.
    alone : bool
        Whether a client that is the only one is bounded too, by the served statistics.

    Returns
    -------
    dict of str to dict of ndarray
        Models by client; the same ones where nothing is too far. Variances lie between the served ones and the
        client's.
    """
    bounded = dict(models)
    if len(models) < 2 and not alone:
        return bounded
    named: dict[str, list[str]] = {}
    for name in untrained(base):
        lengths = {client: _distance(model[name], base[name]) for client, model in models.items()}
        usual = median_low(lengths.values())
        longest, second = [*sorted(lengths.values(), reverse=True), 0.0][:2]
        for client, length in lengths.items():
            beside = _LONGEST_BESIDE_OTHERS * (second if length == longest else longest)
            if len(models) == 1 or (len(models) == 2 and usual == 0):
                value = _near_served(name, models[client][name], base)
            elif length > (bound := min(factor * usual, beside)):
                value = _towards(base[name], models[client][name], bound / length)
            else:
                continue
            if not np.array_equal(value, models[client][name]):
                bounded[client] = {**bounded[client], name: value}
                if length > factor * usual:
                    named.setdefault(client, []).append(name)
    for client, names in named.items():
        logger.warning("client %s: its statistics %s moved too far; they are scaled down", client, ", ".join(names))
    return bounded


def positive_variances(arrays: Arrays, base: Arrays) -> Arrays:
    """A model with the variances of another where its own are below 0, as noise or a server's optimizer leaves them."""
    broken = [name for name, value in arrays.items() if name.endswith(VARIANCE) and bool((value < 0).any())]
    if not broken:
        return arrays
    logger.warning("the aggregate has variances below 0 in %s; they stay as they were", ", ".join(broken))
    return arrays | {name: np.where(arrays[name] < 0, base[name], arrays[name]) for name in broken}


def _distance(value: NDArray[Any], served: NDArray[Any]) -> float:
    return norm({"": value.astype(np.float64) - served.astype(np.float64)})


def _towards(served: NDArray[Any], value: NDArray[Any], share: float) -> NDArray[Any]:
    moved = (1 - share) * served.astype(np.float64) + share * value.astype(np.float64)
    return as_dtype(moved, served.dtype)


def _near_served(name: str, value: NDArray[Any], base: Arrays) -> NDArray[Any]:
    served = base[name]
    if name.endswith(VARIANCE):
        return as_dtype(np.clip(value, served / _MOST_TIMES, served * _MOST_TIMES), served.dtype)
    variance = base.get(name.removesuffix(MEAN) + VARIANCE)
    if name.endswith(MEAN) and variance is not None:
        width = _MOST_STANDARD_DEVIATIONS * np.sqrt(np.maximum(variance, 0))
        return as_dtype(np.clip(value, served - width, served + width), served.dtype)
    return value
