"""Recall and balanced accuracy of forgotten classes against the others, over one or several draws, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fed_unlearn.audits.intervals import wilson_interval
from fed_unlearn.audits.measured import Measured
from fed_unlearn.audits.oracles.student import upper_quantile


def recall(found: Sequence[int], total: int) -> Measured:
    """Mean share of the forgotten classes' samples that is found.

    Parameters
    ----------
    found : sequence of int
        Number of samples that were found, one entry for each draw of what the attacker has.
    total : int
        Number of samples, the same for all draws.

    Returns
    -------
    Measured
        Wilson's interval of the mean share, widened by the standard error of the mean over draws. No value without a
        sample or a draw.
    """
    if not found or not total:
        return Measured(None)
    share = sum(found) / len(found) / total
    low, high = wilson_interval(share * total, total)
    error = _error([count / total for count in found])
    below, above = math.hypot(share - low, error), math.hypot(high - share, error)
    return Measured(share, (max(0.0, share - below), min(1.0, share + above)))


def balanced_accuracy(found: Sequence[int], forgotten: int, apart: Sequence[int], retained: int) -> Measured:
    """Mean of the share of forgotten samples that is found and the share of retained ones that is left alone.

    Parameters
    ----------
    found, apart : sequence of int
        Number of forgotten samples that are found, and of retained samples that are left alone; one entry for each draw
        of what the attacker has.
    forgotten, retained : int
        Number of samples of each side, the same for all draws.

    Returns
    -------
    Measured
        The interval adds the Wilson intervals of both sides as Newcombe does (Statistics in Medicine 1998, method 10),
        and the standard error of the mean over draws. No value where a side has no sample, or there is no draw.
    """
    if not found or not forgotten or not retained:
        return Measured(None)
    left, right = sum(found) / len(found) / forgotten, sum(apart) / len(apart) / retained
    value = (left + right) / 2
    ends = wilson_interval(left * forgotten, forgotten), wilson_interval(right * retained, retained)
    below = math.hypot(left - ends[0][0], right - ends[1][0]) / 2
    above = math.hypot(ends[0][1] - left, ends[1][1] - right) / 2
    each = [(one / forgotten + other / retained) / 2 for one, other in zip(found, apart, strict=True)]
    error = _error(each)
    return Measured(value, (max(0.0, value - math.hypot(below, error)), min(1.0, value + math.hypot(above, error))))


def _error(values: Sequence[float]) -> float:
    """Half the width of the 95 % interval of a mean over draws, by Student's t; 0 for one draw."""
    count = len(values)
    if count < 2:
        return 0.0
    mean = sum(values) / count
    variance = sum((value - mean) ** 2 for value in values) / (count - 1)
    return upper_quantile(0.025, count - 1) * math.sqrt(variance / count)
