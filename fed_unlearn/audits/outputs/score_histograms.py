"""Histograms of scores that holders can add: how well a score ranks one side above another, and how far bins err."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from fed_unlearn.audits.intervals import wilson_interval
from fed_unlearn.audits.measured import Measured
from fed_unlearn.audits.membership import membership_auc, membership_interval

BIN_COUNT = 1024
EDGE = 10.24
"""Bins are uniform in the inverse hyperbolic sine of the score, from minus to plus this: fine where scores are small,
and up to scores of 14,000."""

CALLED = 0.05
"""Share of the staying classes' samples that may be called the forgotten class."""


def score_histogram(scores: Tensor) -> tuple[int, ...]:
    """Counts of scores in ``BIN_COUNT`` bins, from low to high; the end bins take what lies outside.

    Parameters
    ----------
    scores : Tensor of shape (n,)
        What is no number does not count.
    """
    scaled = torch.asinh(scores[~scores.isnan()].double()).clamp(-EDGE, EDGE)
    bins = ((scaled + EDGE) / (2 * EDGE) * BIN_COUNT).long().clamp(0, BIN_COUNT - 1)
    return tuple(torch.bincount(bins, minlength=BIN_COUNT).tolist())


def ranking_auc(high: Sequence[int], low: Sequence[int]) -> Measured:
    """Chance that a sample of one side has a higher score than one of the other, ties counted half.

    Parameters
    ----------
    high, low : sequence of int
        Histograms of both sides, added over holders.

    Returns
    -------
    Measured
        The AUC; None where a side has no sample. The interval is that of
        :func:`~fed_unlearn.audits.membership.membership_interval`, wider on both sides by :func:`largest_error`.
    """
    if not any(high) or not any(low):
        return Measured(None)
    error = largest_error(high, low)
    below, above = membership_interval(high, low)
    return Measured(membership_auc(high, low), (max(0.0, below - error), min(1.0, above + error)))


def largest_error(high: Sequence[int], low: Sequence[int]) -> float:
    """How far the AUC of two histograms can be from that of the scores themselves.

    Pairs in different bins are in the right order. A pair in one bin counts half, where the scores say 0, a half or 1.
    So it is half the share of pairs that lie in one bin.
    """
    both = np.asarray(high, dtype=np.float64) @ np.asarray(low, dtype=np.float64)
    return float(both / 2 / (float(sum(high)) * float(sum(low))))


def recall_where_few_are_called(high: Sequence[int], low: Sequence[int]) -> Measured:
    """Share of one side above the threshold that a share of ``CALLED`` of the other side lies above.

    Parameters
    ----------
    high, low : sequence of int
        Histograms of both sides, added over holders.

    Returns
    -------
    Measured
        None where a side has no sample. In the bin of the threshold, which no other bin's samples can reach, recall is
        interpolated: it is within that bin's share of ``high`` of the largest recall at which at most ``CALLED`` of the
        scores themselves are called. The interval joins two: that of a share of so many samples (Wilson), and the
        recall where the share that is called is at the ends of its own interval, since the threshold is drawn, too;
        their distances to the value are added as squares (Newcombe, Statistics in Medicine 1998, method 10).
    """
    if not any(high) or not any(low):
        return Measured(None)
    count, others = sum(high), sum(low)
    recall = _recall(high, low, CALLED)
    below, above = wilson_interval(recall * count, count)
    fewer, more = wilson_interval(CALLED * others, others)
    lowest, highest = _recall(high, low, fewer, part=0), _recall(high, low, more, part=1)
    return Measured(
        recall,
        (
            max(0.0, recall - ((recall - below) ** 2 + (recall - lowest) ** 2) ** 0.5),
            min(1.0, recall + ((above - recall) ** 2 + (highest - recall) ** 2) ** 0.5),
        ),
    )


def _recall(high: Sequence[int], low: Sequence[int], called: float, part: float | None = None) -> float:
    """Recall where a share is called; ``part`` of the threshold's bin, by default as much as the share allows."""
    allowed = called * sum(low)
    recalled, called_above = (list(accumulate(reversed(side), initial=0)) for side in (high, low))
    place = next((index for index, total in enumerate(called_above) if total > allowed + 1e-9), None)
    if place is None:  # all may be called
        return 1.0
    inside = recalled[place] - recalled[place - 1]
    if part is None:
        part = (allowed - called_above[place - 1]) / (called_above[place] - called_above[place - 1])
    return (recalled[place - 1] + part * inside) / sum(high)
