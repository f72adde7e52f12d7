"""Student's t distribution, for whole degrees of freedom (Abramowitz and Stegun, 1964, 26.7.3 and 26.7.4)."""

from __future__ import annotations

import math


def upper_tail(statistic: float, freedom: int) -> float:
    """Probability that a t variable is at least ``statistic``.

    Parameters
    ----------
    statistic : float
    freedom : int
        Degrees of freedom, at least 1.
    """
    angle = math.atan(statistic / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    is_odd = freedom % 2
    term, total = (cosine, 0.0) if is_odd else (1.0, 0.0)
    for step in range(1, freedom // 2 + 1):
        total += term
        term *= cosine**2 * (2 * step / (2 * step + 1) if is_odd else (2 * step - 1) / (2 * step))
    between = 2 / math.pi * (angle + sine * total) if is_odd else sine * total
    return (1 - between) / 2


def upper_quantile(probability: float, freedom: int) -> float:
    """The value that a t variable exceeds with a probability.

    Parameters
    ----------
    probability : float
        Probability of a larger value, from 1e-6 to 0.5.
    freedom : int
        Degrees of freedom, at least 1.
    """
    low, high = 0.0, 1.0
    while upper_tail(high, freedom) > probability:
        low, high = high, 2 * high
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if upper_tail(middle, freedom) > probability else (low, middle)
    return (low + high) / 2
