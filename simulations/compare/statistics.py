"""The statistics of a comparison: means, paired differences, Holm's adjustment, ranks and the Friedman test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_DECIMALS = 12
"""Values that agree to so many decimals are the same: sums of floats differ in the last ones."""

LEAST_METHODS, LEAST_BLOCKS = 3, 3
"""Methods and seeds that the Friedman test needs here; it says little below ten seeds."""


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of a figure over seeds.

    Attributes
    ----------
    n : int
        Number of seeds.
    mean : float or None
        None without any.
    deviation : float or None
        Standard deviation with n - 1 in its denominator; None below two seeds.
    """

    n: int
    mean: float | None
    deviation: float | None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The paired difference of two methods over the seeds that both have.

    Attributes
    ----------
    n : int
        Number of common seeds.
    mean : float
        Mean difference, the other method minus the baseline.
    low, high : float or None
        Its t-interval. Both are the mean where the difference is the same at every seed; None with one seed.
    p : float or None
        Two-sided p-value of the paired t-test. None with one seed, and where the difference is the same at every seed.
    adjusted_p : float or None
        ``p`` by Holm's procedure, over all comparisons of the figure with the baseline.
    is_constant : bool
        Whether the difference is the same at every seed, of at least two.
    """

    n: int
    mean: float
    low: float | None
    high: float | None
    p: float | None
    adjusted_p: float | None = None
    is_constant: bool = False


@dataclass(frozen=True)
class Friedman:
    """The Friedman test of whether methods rank alike.

    Attributes
    ----------
    statistic, p : float
    """

    statistic: float
    p: float


def spread_of(values: Sequence[float]) -> Spread:
    """Mean and standard deviation of values, one for each seed."""
    if not values:
        return Spread(0, None, None)
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(len(values), float(np.mean(values)), deviation)


def paired_difference(
    method: Mapping[int, float], baseline: Mapping[int, float], level: float = 0.95
) -> Difference | None:
    """Difference of a method to the baseline, with the t-interval of the paired t-test.

    Parameters
    ----------
    method, baseline : mapping of int to float
        Values by seed. Only seeds that both have count.
    level : float
        Level of the interval, in (0, 1).

    Returns
    -------
    Difference or None
        None without a common seed.
    """
    seeds = sorted(method.keys() & baseline.keys())
    if not seeds:
        return None
    first, second = [method[seed] for seed in seeds], [baseline[seed] for seed in seeds]
    differences = np.round(np.subtract(first, second), _DECIMALS)
    mean = float(np.mean(np.subtract(first, second)))
    if len(seeds) == 1:
        return Difference(n=1, mean=mean, low=None, high=None, p=None)
    if np.ptp(differences) == 0:
        return Difference(n=len(seeds), mean=mean, low=mean, high=mean, p=None, is_constant=True)
    from scipy.stats import ttest_rel

    test = ttest_rel(first, second)
    interval = test.confidence_interval(level)
    return Difference(n=len(seeds), mean=mean, low=float(interval.low), high=float(interval.high), p=float(test.pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values by the step-down procedure of Holm (Scandinavian Journal of Statistics, 1979).

    Parameters
    ----------
    p_values : sequence of float
        One for each comparison of a family, in any order.

    Returns
    -------
    list of float
        Adjusted p-values in the same order. Rejecting where they are at most alpha keeps the probability of any false
        rejection at alpha.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def mean_ranks(scores: Sequence[Sequence[float]]) -> list[float]:
    """Mean rank of each method over seeds; 1 is the lowest score, and equal scores share the mean of their ranks.

    Parameters
    ----------
    scores : sequence of sequences of float
        A row for each seed, with a score for each method. Lower is better.
    """
    from scipy.stats import rankdata

    ranks = [rankdata(np.round(row, _DECIMALS)) for row in scores]
    return [float(rank) for rank in np.mean(ranks, axis=0)] if ranks else []


def friedman(scores: Sequence[Sequence[float]]) -> Friedman | None:
    """The Friedman test over seeds; its p-value is that of the chi-squared approximation.

    Parameters
    ----------
    scores : sequence of sequences of float
        A row for each seed, with a score for each method.

    Returns
    -------
    Friedman or None
        None below three methods or three seeds, and where all methods are equal at every seed.
    """
    if len(scores) < LEAST_BLOCKS or len(scores[0]) < LEAST_METHODS:
        return None
    columns = np.round(np.asarray(scores, dtype=float), _DECIMALS).T
    if np.all(np.ptp(columns, axis=0) == 0):
        return None
    from scipy.stats import friedmanchisquare

    statistic, p = friedmanchisquare(*columns)
    return Friedman(float(statistic), float(p)) if math.isfinite(p) else None
