"""95 % intervals of shares, differences of means, and figures of drawn samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from fed_unlearn.seeding import derive_seed

QUANTILE = NormalDist().inv_cdf(0.975)
RESAMPLES = 1000


def wilson_interval(hits: float, total: int) -> tuple[float, float]:
    """Interval of a share (Wilson, 1927; Brown, Cai and DasGupta, Statistical Science 2001).

    Parameters
    ----------
    hits : float
        Number of hits, from 0 to ``total``; between whole numbers where it is interpolated.
    total : int
        Number of samples, at least 1.
    """
    share, square = hits / total, QUANTILE**2
    centre = (share + square / (2 * total)) / (1 + square / total)
    half = QUANTILE / (1 + square / total) * math.sqrt(share * (1 - share) / total + square / (4 * total**2))
    # Rounding must not put an end past a share of 0 or 1.
    return min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))


def mean_difference(
    first: tuple[int, float, float], second: tuple[int, float, float]
) -> tuple[float, tuple[float, float] | None]:
    """Difference of two means, and its interval: normal, with the variance of each side of its own (Welch, 1947).

    Parameters
    ----------
    first, second : tuple of int, float and float
        Number of samples, at least 1, their sum and their sum of squares.

    Returns
    -------
    tuple of float and (float, float) or None
        The difference and its 95 % interval. The interval is None where a side has one sample, which says nothing of
        how the samples scatter.
    """
    value = first[1] / first[0] - second[1] / second[0]
    if min(first[0], second[0]) < 2:
        return value, None
    variance = sum(
        max(0.0, squares - total * total / count) / (count - 1) / count for count, total, squares in (first, second)
    )
    half = QUANTILE * math.sqrt(variance)
    return value, (value - half, value + half)


def bootstrap_interval(
    count: int, figure: Callable[[NDArray[np.int64]], float], *, seed: int, name: str
) -> tuple[float, float]:
    """Percentile bootstrap interval of a figure of samples (Efron and Tibshirani, 1993, section 13.3).

    Parameters
    ----------
    count : int
        Number of samples, at least 1.
    figure : callable
        Gives the figure of the samples at these positions, of shape (count,).
    seed : int
        Seed of the audit; with ``name`` it decides all draws.
    name : str
        Name of the figure.
    """
    random = np.random.default_rng(derive_seed(seed, "bootstrap", name))
    drawn = [figure(random.integers(count, size=count)) for _ in range(RESAMPLES)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)
