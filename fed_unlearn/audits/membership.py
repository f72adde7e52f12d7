"""Can an attacker tell forgotten training samples from unseen ones by their loss?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fed_unlearn.errors import EmptySetError, InvalidDataError, InvalidParameterError
from fed_unlearn.logits import confidence

BIN_COUNT = 200
_EDGE = 20.0


def confidence_histogram(logits: Tensor, labels: Tensor) -> list[int]:
    """Histogram of the logit of the true class's probability, a monotone transform of the loss.

    Fixed bins, so that histograms of several clients can be added and the pooled attack is exact up to one bin.

    Parameters
    ----------
    logits : Tensor of shape (n, classes), float32
    labels : Tensor of shape (n,), int64

    Returns
    -------
    list of int
        ``BIN_COUNT`` counts over [-20, 20], from unlikely to certain; values outside fall in the end bins.
    """
    if len(labels) == 0:
        return [0] * BIN_COUNT
    scaled = confidence(logits, labels).clamp(-_EDGE, _EDGE)
    bins = ((scaled + _EDGE) / (2 * _EDGE) * BIN_COUNT).long().clamp(0, BIN_COUNT - 1)
    return torch.bincount(bins, minlength=BIN_COUNT).tolist()


def membership_auc(member_histogram: Sequence[int], outsider_histogram: Sequence[int]) -> float:
    """Area under the ROC curve of the loss-threshold membership attack (Yeom et al., 2018), pooled over clients.

    Parameters
    ----------
    member_histogram, outsider_histogram : sequence of int
        Histograms from :func:`confidence_histogram`, added over clients.

    Returns
    -------
    float
        The AUC, in [0, 1]; 0.5 means that the attack cannot tell the sides apart. Samples in one bin count as ties.

    Raises
    ------
    EmptySetError
        If either side has no sample.
    """
    return _auc_of_counts(*_by_loss(member_histogram, outsider_histogram))


def membership_interval(
    member_histogram: Sequence[int], outsider_histogram: Sequence[int], *, confidence: float = 0.95
) -> tuple[float, float]:
    """Confidence interval of :func:`membership_auc`, from the pooled histograms alone and without any randomness.

    It spans two intervals. The first is normal on the scale of the AUC's logit, with the variance of DeLong, DeLong and
    Clarke-Pearson (Biometrics 1988), which is exact for the counts and counts ties half. It holds for any shapes of the
    two sides, but is too narrow for few members. The second holds every AUC that the measured one does not contradict,
    with the variance that Hanley and McNeil (Radiology 1982) give for that AUC (Newcombe, Statistics in Medicine 2006,
    part 2, method 5). It holds for few samples of similar shapes, and has a width where DeLong's variance is zero.

    Measured coverage of the 95 % interval, 4 to 32 normal members against 20 to 200 normal outsiders, AUCs from 0.5 to
    0.97, 1,000 draws each: at least 0.948 and 0.970 on average; with members half as spread at least 0.956, with
    members twice as spread at least 0.89 (of 4) and 0.955 on average. DeLong's variance on the AUC's own scale covers
    as little as 0.59, 0.35 with members twice as spread. Two or three members: at least 0.95, twice as spread 0.79.

    Parameters
    ----------
    member_histogram, outsider_histogram : sequence of int
        Histograms from :func:`confidence_histogram`, added over clients.
    confidence : float in (0, 1), default 0.95

    Returns
    -------
    (float, float)
        Lower and upper end, in [0, 1]; the AUC lies between them. For an AUC of 0 or 1, or where all samples stand in
        one bin, the second interval alone. A side of one sample has no variance of its own: the largest that its mean
        allows stands in for it.

    Raises
    ------
    EmptySetError
        If either side has no sample.
    InvalidParameterError
        If ``confidence`` is out of range.
    """
    if not 0 < confidence < 1:
        raise InvalidParameterError(f"confidence {confidence} was given; expected a number between 0 and 1")
    members, outsiders = _by_loss(member_histogram, outsider_histogram)
    auc = _auc_of_counts(members, outsiders)
    quantile = NormalDist().inv_cdf((1 + confidence) / 2)
    counts = int(members.sum()), int(outsiders.sum())
    pairs = counts[0] * counts[1]
    alone, shared = 1 / pairs, (sum(counts) / 2 - 1) / pairs
    low = lowest_likely_auc(auc, alone, shared, quantile)
    high = 1 - lowest_likely_auc(1 - auc, alone, shared, quantile)
    if 0 < auc < 1:
        least, most = odds_interval(auc, math.sqrt(_delong_variance(members, outsiders, auc)), quantile)
        low, high = min(low, least), max(high, most)
    return low, high


def odds_interval(auc: float, error: float, quantile: float) -> tuple[float, float]:
    """Interval of an AUC between 0 and 1 that is normal on the scale of its logit.

    Parameters
    ----------
    auc, error : float
        The AUC and its standard error.
    quantile : float
        Quantile of the standard normal distribution: half the width of the interval, in standard errors of the logit.
    """
    odds, spread = math.log(auc / (1 - auc)), quantile * error / (auc * (1 - auc))
    return _logistic(odds - spread), _logistic(odds + spread)


def lowest_likely_auc(auc: float, alone: float, shared: float, quantile: float) -> float:
    """The smallest AUC from which the measured one is at most ``quantile`` standard deviations away.

    Parameters
    ----------
    auc : float
        The measured AUC.
    alone, shared : float
        An AUC ``a`` has the variance ``a (1 - a) (alone + shared ((1 - a) / (2 - a) + a / (1 + a)))``, the same as
        ``1 - a``, so that the largest likely AUC is one minus that of ``1 - auc``. For m members and n outsiders
        ``alone`` is 1 / (m n) and ``shared`` is ((m + n) / 2 - 1) / (m n).
    quantile : float
        Quantile of the standard normal distribution.
    """
    low, high = 0.0, auc
    for _ in range(50):  # halves the bracket down to double precision
        middle = (low + high) / 2
        shape = (1 - middle) / (2 - middle) + middle / (1 + middle)
        if auc - middle > quantile * math.sqrt(middle * (1 - middle) * (alone + shared * shape)):
            low = middle
        else:
            high = middle
    return low


def sample_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each sample in nats, in a precision in which confident samples still differ.

    Parameters
    ----------
    logits : Tensor of shape (n, classes), float32
    labels : Tensor of shape (n,), int64

    Returns
    -------
    Tensor of shape (n,), float64
        Loss of each sample, at least 0. Written as softplus of the other logits' log-sum-exp minus the own logit:
        ``log_softmax`` rounds every loss below 1e-7 to the same few values in float32, and an attack would see ties
        where there are none.
    """
    if len(labels) == 0:
        return torch.empty(0, dtype=torch.float64)
    return functional.softplus(-confidence(logits.double(), labels))


def exact_membership_auc(member_losses: Tensor, outsider_losses: Tensor) -> float:
    """Area under the ROC curve of the loss-threshold membership attack (Yeom et al., 2018), from the losses themselves.

    Parameters
    ----------
    member_losses, outsider_losses : Tensor of shape (n,) and (m,)
        Losses of samples inside and outside the training set; the attack calls those with small losses members.

    Returns
    -------
    float
        The AUC, in [0, 1]: the chance that a member's loss is below an outsider's, ties counted half (the Mann-Whitney
        statistic). 0.5 means that the attack cannot tell them apart.

    Raises
    ------
    EmptySetError
        If either side has no sample.
    InvalidDataError
        If a loss is not a finite number.
    """
    members, outsiders = _ranked(member_losses, outsider_losses)
    groups = int(max(members.max(), outsiders.max())) + 1
    return _auc_of_counts(np.bincount(members, minlength=groups), np.bincount(outsiders, minlength=groups))


def membership_auc_interval(
    member_losses: Tensor,
    outsider_losses: Tensor,
    generator: np.random.Generator,
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
) -> tuple[float, float]:
    """Percentile bootstrap interval of :func:`exact_membership_auc` (Efron and Tibshirani, 1993, section 13.3).

    Members and outsiders are drawn anew with replacement, each among themselves. An AUC of exactly 0 or 1 has an
    interval of no width: no resample of separated losses overlaps.

    Parameters
    ----------
    member_losses, outsider_losses : Tensor of shape (n,) and (m,)
        Losses of samples inside and outside the training set, as in :func:`exact_membership_auc`.
    generator : numpy.random.Generator
        The only source of randomness.
    confidence : float in (0, 1), default 0.95
    resamples : int, default 1000
        Number of bootstrap resamples, at least 1.

    Returns
    -------
    (float, float)
        Lower and upper end, in [0, 1].

    Raises
    ------
    EmptySetError, InvalidDataError
        If :func:`exact_membership_auc` would raise it.
    InvalidParameterError
        If ``confidence`` or ``resamples`` is out of range.
    """
    if not 0 < confidence < 1 or resamples < 1:
        raise InvalidParameterError(
            f"confidence {confidence} and {resamples} resamples were given; expected a confidence between 0 and 1 and"
            " at least one resample"
        )
    members, outsiders = _ranked(member_losses, outsider_losses)
    groups = int(max(members.max(), outsiders.max())) + 1
    drawn = [
        _auc_of_counts(
            *(
                np.bincount(side[generator.integers(len(side), size=len(side))], minlength=groups)
                for side in (members, outsiders)
            )
        )
        for _ in range(resamples)
    ]
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)


def _ranked(member_losses: Tensor, outsider_losses: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both sides' losses as ranks among all of them, from 0; equal losses have equal ranks."""
    count = len(member_losses)
    if count == 0 or len(outsider_losses) == 0:
        raise EmptySetError(f"{count} members and {len(outsider_losses)} outsiders; both need one at least")
    losses = torch.cat([member_losses.double(), outsider_losses.double()]).cpu().numpy()
    if not np.isfinite(losses).all():
        raise InvalidDataError(f"{(~np.isfinite(losses)).sum()} of {len(losses)} losses are not finite numbers")
    ranks = np.unique(losses, return_inverse=True)[1].reshape(-1)
    return ranks[:count], ranks[count:]


def _auc_of_counts(members: NDArray[np.int64], outsiders: NDArray[np.int64]) -> float:
    """Chance that a member ranks below an outsider, from how many of each have every rank."""
    above = outsiders.sum() - np.cumsum(outsiders)
    return float((members * (above + outsiders / 2)).sum() / (float(members.sum()) * float(outsiders.sum())))


def _by_loss(
    member_histogram: Sequence[int], outsider_histogram: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both sides' counts, the most confident first: their losses are smallest."""
    members = np.asarray(member_histogram, dtype=np.int64)
    outsiders = np.asarray(outsider_histogram, dtype=np.int64)
    if members.sum() == 0 or outsiders.sum() == 0:
        raise EmptySetError(f"{members.sum():.0f} members and {outsiders.sum():.0f} outsiders; both need one at least")
    return members[::-1], outsiders[::-1]


def _delong_variance(members: NDArray[np.int64], outsiders: NDArray[np.int64], auc: float) -> float:
    """Variance of the AUC by its structural components: each sample's share of pairs won."""
    won = (outsiders.sum() - np.cumsum(outsiders) + outsiders / 2) / outsiders.sum()
    lost = (np.cumsum(members) - members / 2) / members.sum()
    variance = 0.0
    for counts, components in ((members, won), (outsiders, lost)):
        count = int(counts.sum())
        squares = float((counts * (components - auc) ** 2).sum())
        variance += squares / ((count - 1) * count) if count > 1 else auc * (1 - auc)
    return variance


def _logistic(value: float) -> float:
    return 0.5 * (1 + math.tanh(value / 2))  # exp would overflow
