"""Can an attacker tell forgotten training samples from unseen ones by their loss?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fed_unlearn.errors import EmptySetError, InvalidDataError, InvalidParameterError
from fed_unlearn.margins import confidence

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
        From :func:`confidence_histogram`, added over clients.

    Returns
    -------
    float
        In [0, 1]; 0.5 means that the attack cannot tell them apart. Samples in one bin count as ties.

    Raises
    ------
    EmptySetError
        If either side has no sample.
    """
    members = np.asarray(member_histogram, dtype=np.int64)
    outsiders = np.asarray(outsider_histogram, dtype=np.int64)
    if members.sum() == 0 or outsiders.sum() == 0:
        raise EmptySetError(f"{members.sum():.0f} members and {outsiders.sum():.0f} outsiders; both need one at least")
    return _auc_of_counts(members[::-1], outsiders[::-1])  # the most confident come first: their losses are smallest


def sample_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each sample in nats, in a precision in which confident samples still differ.

    Parameters
    ----------
    logits : Tensor of shape (n, classes), float32
    labels : Tensor of shape (n,), int64

    Returns
    -------
    Tensor of shape (n,), float64
        At least 0. Written as softplus of the other logits' log-sum-exp minus the own logit: ``log_softmax`` rounds
        every loss below 1e-7 to the same few values in float32, and an attack would see ties where there are none.
    """
    if len(labels) == 0:
        return torch.empty(0, dtype=torch.float64)
    return functional.softplus(-confidence(logits.double(), labels))


def exact_membership_auc(member_losses: Tensor, outsider_losses: Tensor) -> float:
    """Area under the ROC curve of the loss-threshold membership attack (Yeom et al., 2018), from the losses themselves.

    Parameters
    ----------
    member_losses, outsider_losses : Tensor of shape (n,) and (m,)
        Of samples inside and outside the training set; the attack calls those with small losses members.

    Returns
    -------
    float
        In [0, 1]: the chance that a member's loss is below an outsider's, ties counted half (the Mann-Whitney
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
        As there.
    generator : numpy.random.Generator
        The only source of randomness.
    confidence : float in (0, 1), default 0.95
    resamples : int, default 1000
        At least 1.

    Returns
    -------
    (float, float)
        Lower and upper end, in [0, 1].

    Raises
    ------
    EmptySetError, InvalidDataError
        As there.
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
    return float((members * (above + outsiders / 2)).sum() / (members.sum() * outsiders.sum()))
