"""Where one more value of the same kind would lie: prediction intervals of a few values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from statistics import NormalDist, fmean, stdev

import numpy as np

from fed_unlearn.audits.measured import Measured

FEWEST = 3
"""Fewer values say nothing of how they scatter."""

_STEPS = 200_000
_NORMAL = NormalDist()


def prediction(values: Sequence[float]) -> Measured:
    """Mean of some values, and the 95 % interval of one more: mean +- t s sqrt(1 + 1 / n).

    Parameters
    ----------
    values : sequence of float
        Drawn alike; of fewer than ``FEWEST`` there is no interval, and of none no mean.
    """
    if not values:
        return Measured(None)
    mean = fmean(values)
    if len(values) < FEWEST:
        return Measured(mean)
    half = student_quantile(len(values) - 1) * stdev(values) * math.sqrt(1 + 1 / len(values))
    return Measured(mean, (mean - half, mean + half))


def share_prediction(shares: Sequence[float], counts: Sequence[int]) -> Measured:
    """The same of shares in [0, 1], on the scale of the normal quantile, where they scatter more alike.

    Parameters
    ----------
    shares : sequence of float
    counts : sequence of int
        Of what each is a share, at least 1: 0 and 1 count as half of one.
    """
    inner = [min(max(share, 0.5 / count), 1 - 0.5 / count) for share, count in zip(shares, counts, strict=True)]
    found = prediction([_NORMAL.inv_cdf(share) for share in inner])
    if found.value is None or found.interval is None:
        return found if found.value is None else Measured(_NORMAL.cdf(found.value))
    low, high = found.interval
    return Measured(_NORMAL.cdf(found.value), (_NORMAL.cdf(low), _NORMAL.cdf(high)))


def predicted_figures(models: Sequence[Mapping[str, Measured]]) -> dict[str, Measured]:
    """Mean and 95 % prediction interval of each figure that was measured of all of some models, such as oracles.

    Parameters
    ----------
    models : sequence of mapping of str to Measured
        The figures of each model, by name. Of fewer than ``FEWEST`` models there are no intervals.
    """
    found: dict[str, Measured] = {}
    for name in models[0] if models else ():
        values = [value for figures in models if (value := figures.get(name, Measured(None)).value) is not None]
        if len(values) == len(models):
            found[name] = prediction(values)
    return found


@cache
def student_quantile(degrees: int) -> float:
    """The 0.975 quantile of Student's t.

    With x = sqrt(degrees) tan(angle) its density is proportional to cos(angle) ** (degrees - 1).

    Parameters
    ----------
    degrees : int
        Of freedom, at least 1.
    """
    angles = np.linspace(0, math.pi / 2, _STEPS + 1)
    density = np.cos(angles) ** (degrees - 1)
    inside = np.concatenate(([0.0], np.cumsum(density[1:] + density[:-1])))
    return math.sqrt(degrees) * math.tan(float(np.interp(0.95, inside / inside[-1], angles)))
