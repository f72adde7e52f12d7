"""Where one more value of the same kind would lie: prediction intervals of a few values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import NormalDist, fmean

from fed_unlearn.audits.measured import Measured
from fed_unlearn.audits.oracles.prediction import prediction_interval

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
