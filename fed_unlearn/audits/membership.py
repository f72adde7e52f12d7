"""Can an attacker tell forgotten training samples from unseen ones by their loss?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fed_unlearn.errors import EmptySetError

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
    own = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], -torch.inf).logsumexp(1)
    scaled = (own - others).clamp(-_EDGE, _EDGE)
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
    members = np.asarray(member_histogram, dtype=np.float64)
    outsiders = np.asarray(outsider_histogram, dtype=np.float64)
    if members.sum() == 0 or outsiders.sum() == 0:
        raise EmptySetError(f"{members.sum():.0f} members and {outsiders.sum():.0f} outsiders; both need one at least")
    below = np.cumsum(outsiders) - outsiders
    return float((members * (below + outsiders / 2)).sum() / (members.sum() * outsiders.sum()))
