"""Membership attacks class by class: from histograms that holders can add, or from the scores themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fed_unlearn.audits.intervals import QUANTILE
from fed_unlearn.audits.membership import BIN_COUNT, confidence_histogram, lowest_likely_auc, odds_interval
from fed_unlearn.audits.observation import Judged


def class_histograms(side: Judged | None, class_count: int) -> tuple[int, ...]:
    """Histograms of the confidence in samples, one after another by class.

    Parameters
    ----------
    side : Judged or None
    class_count : int

    Returns
    -------
    tuple of int
        ``class_count * BIN_COUNT`` counts; empty where there is no sample.
    """
    if side is None or not len(side):
        return ()
    of_classes = (side.where(side.labels == index) for index in range(class_count))
    return tuple(count for one in of_classes for count in confidence_histogram(one.logits, one.labels))


def auc_by_class(members: Sequence[int], outsiders: Sequence[int]) -> tuple[float | None, tuple[float, float] | None]:
    """AUC of the attack within each class, averaged with the shares that the classes have among the members.

    Parameters
    ----------
    members, outsiders : sequence of int
        Histograms from :func:`class_histograms`, added over holders; of the same length, or empty.

    Returns
    -------
    tuple of (float or None) and ((float, float) or None)
        The AUC and its 95 % interval, both in [0, 1]. Classes of which a side has no sample are left out; None where
        that leaves none. It is the same as the AUC of the pooled samples where there is one class. The interval spans
        the two of :func:`~fed_unlearn.audits.membership.membership_interval`, with the variance of a weighted mean of
        independent AUCs. Classes are taken to scatter alike, since few samples of one class say little of it.
    """
    if not any(members) or not any(outsiders):
        return None, None
    sides = [np.asarray(side, dtype=np.int64).reshape(-1, BIN_COUNT)[:, ::-1] for side in (members, outsiders)]
    both = (sides[0].sum(1) > 0) & (sides[1].sum(1) > 0)
    if not both.any():
        return None, None
    return _measured(sides[0][both], sides[1][both])


def exact_auc_by_class(
    scores: tuple[Tensor, Tensor], labels: tuple[Tensor, Tensor]
) -> tuple[float | None, tuple[float, float] | None]:
    """As :func:`auc_by_class`, from any scores themselves, of which those of members are taken to be higher.

    Parameters
    ----------
    scores : two Tensor of shape (n,) and (m,)
        Scores of the members and of the outsiders.
    labels : two Tensor of shape (n,) and (m,), int64
        Classes of the members and of the outsiders.
    """
    classes = [index for index in labels[0].unique().tolist() if bool((labels[1] == index).any())]
    if not classes:
        return None, None
    values = torch.cat(scores).double().numpy()
    ranks = np.unique(-values, return_inverse=True)[1].reshape(-1)
    count, sides = int(ranks.max()) + 1, np.split(ranks, [len(scores[0])])
    counts = [
        np.stack([np.bincount(side[(of == index).numpy()], minlength=count) for index in classes])
        for side, of in zip(sides, labels, strict=True)
    ]
    return _measured(counts[0], counts[1])


def _measured(members: NDArray[np.int64], outsiders: NDArray[np.int64]) -> tuple[float, tuple[float, float]]:
    """AUC and interval of counts of shape (classes, bins), the bin of the likeliest members first."""
    own, others = members.sum(1), outsiders.sum(1)
    weights = own / own.sum()
    won = (others[:, None] - np.cumsum(outsiders, axis=1) + outsiders / 2) / others[:, None]
    lost = (np.cumsum(members, axis=1) - members / 2) / own[:, None]
    by_class = (members * won).sum(1) / own
    auc = float(weights @ by_class)

    squares = weights**2
    scatter = [
        _scatter(counts, components, by_class, auc) for counts, components in ((members, won), (outsiders, lost))
    ]
    variance = float(squares @ (scatter[0] / own + scatter[1] / others))
    pairs = own * others
    alone, shared = float((squares / pairs).sum()), float((squares / pairs * ((own + others) / 2 - 1)).sum())
    low = lowest_likely_auc(auc, alone, shared, QUANTILE)
    high = 1 - lowest_likely_auc(1 - auc, alone, shared, QUANTILE)
    if 0 < auc < 1:
        least, most = odds_interval(auc, math.sqrt(variance), QUANTILE)
        low, high = min(low, least), max(high, most)
    return auc, (low, high)


def _scatter(
    counts: NDArray[np.int64], components: NDArray[np.float64], by_class: NDArray[np.float64], auc: float
) -> float:
    """Variance of samples' components within classes, over all classes together.

    Where every class has one sample, the largest that the mean allows stands in for it.
    """
    freedom = int(counts.sum()) - len(counts)
    if freedom == 0:
        return auc * (1 - auc)
    return float((counts * (components - by_class[:, None]) ** 2).sum()) / freedom
