"""Where one more value of the same kind would lie: prediction intervals of a few values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist, fmean

from fed_unlearn.audits.measured import Measured
from fed_unlearn.audits.oracles.prediction import assumed_deviation, prediction_interval
from fed_unlearn.audits.oracles.student import upper_quantile

FEWEST = 3
"""Fewer values say nothing of how they scatter."""

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
    return Measured(fmean(values), prediction_interval(values) if len(values) >= FEWEST else None)


def share_prediction(shares: Sequence[float], counts: Sequence[int]) -> Measured:
    """The same of shares in [0, 1], on the scale of the normal quantile, where they scatter more alike.

    Parameters
    ----------
    shares : sequence of float
    counts : sequence of int
        Number of samples that each share is taken of, at least 1. A share of 0 counts as half a sample, and a share of
        1 as half a sample less than all.
    """
    inner = [min(max(share, 0.5 / count), 1 - 0.5 / count) for share, count in zip(shares, counts, strict=True)]
    found = prediction([_NORMAL.inv_cdf(share) for share in inner])
    if found.value is None or found.interval is None:
        return found if found.value is None else Measured(_NORMAL.cdf(found.value))
    low, high = found.interval
    return Measured(_NORMAL.cdf(found.value), (_NORMAL.cdf(low), _NORMAL.cdf(high)))


def predicted_figures(models: Sequence[Mapping[str, Measured]]) -> dict[str, Measured]:
    """Mean and 95 % prediction interval of each figure that was measured of all of some models, such as oracles.

    Where all models have the same value, it is the mean of their own intervals, or else that of the deviation that
    :func:`~fed_unlearn.audits.oracles.prediction.assumed_deviation` assumes: that they do not scatter is chance.

    Parameters
    ----------
    models : sequence of mapping of str to Measured
        The figures of each model, by name. Of fewer than ``FEWEST`` models there are no intervals.
    """
    found: dict[str, Measured] = {}
    for name in models[0] if models else ():
        values = [value for figures in models if (value := figures.get(name, Measured(None)).value) is not None]
        if len(values) == len(models):
            found[name] = _of_equals([figures[name] for figures in models]) or prediction(values)
    return found


def _of_equals(models: Sequence[Measured]) -> Measured | None:
    """What is predicted where several models have the same value; None where their values differ."""
    value, count = models[0].value, len(models)
    if value is None or count < FEWEST or any(model.value != value for model in models):
        return None
    intervals = [model.interval for model in models if model.interval is not None]
    if intervals:
        return Measured(value, (fmean(low for low, _ in intervals), fmean(high for _, high in intervals)))
    half = upper_quantile(0.025, count - 1) * assumed_deviation(value) * math.sqrt(1 + 1 / count)
    return Measured(value, (value - half, value + half))
