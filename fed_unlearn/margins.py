"""How far a model leans to some classes and away from the others: what losses, guards and attacks read off logits."""

from __future__ import annotations

import torch
from torch import Tensor


def confidence(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-odds of each sample's own class: its logit minus the log-sum-exp of the others.

    A monotone transform of the cross-entropy, without its floor at zero (Carlini et al., 2022, section IV).

    Parameters
    ----------
    logits : Tensor of shape (n, classes)
    labels : Tensor of shape (n,), int64

    Returns
    -------
    Tensor of shape (n,)
    """
    own = labels.unsqueeze(1)
    others = logits.scatter(1, own, -torch.inf).logsumexp(dim=1)
    return logits.gather(1, own).squeeze(1) - others


def logit_gaps(logits: Tensor, allowed: Tensor) -> Tensor:
    """Largest allowed logit minus the largest other one.

    Parameters
    ----------
    logits : Tensor of shape (n, classes)
    allowed : Tensor of shape (n, classes), bool
        With an allowed and another class in every row.

    Returns
    -------
    Tensor of shape (n,)
        Above 0 where the predicted class is an allowed one.
    """
    best = logits.masked_fill(~allowed, -torch.inf).amax(dim=1)
    return best - logits.masked_fill(allowed, -torch.inf).amax(dim=1)


def log_odds(logits: Tensor, allowed: Tensor) -> Tensor:
    """Of the allowed classes together, against the others.

    Parameters
    ----------
    logits : Tensor of shape (n, classes)
    allowed : Tensor of shape (n, classes), bool
        With an allowed and another class in every row.

    Returns
    -------
    Tensor of shape (n,)
    """
    for_allowed, for_others = (logits.masked_fill(mask, -torch.inf).logsumexp(dim=1) for mask in (~allowed, allowed))
    return for_allowed - for_others
