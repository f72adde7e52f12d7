"""How sure a model would be of a sample's own class had it never seen the sample."""

from __future__ import annotations

import torch
from torch import Tensor

from fed_unlearn.errors import InvalidDataError


def unseen_confidence(
    member_confidence: Tensor, labels: Tensor, unseen_confidence: Tensor, unseen_labels: Tensor
) -> Tensor:
    """For each member the confidence that it would have, were the members as the unseen samples of their classes.

    Members keep their order of difficulty: each gets its place among the unseen samples of its class; the places of
    all members are then spread evenly over (0, 1), and the quantile at that place is its target. After training, the
    places of members crowd at the upper end; evenly spread, they are those of unseen samples.

    Parameters
    ----------
    member_confidence, labels : Tensor of shape (n,)
    unseen_confidence, unseen_labels : Tensor of shape (m,)

    Returns
    -------
    Tensor of shape (n,)

    Raises
    ------
    InvalidDataError
        If a member's class has no unseen sample.
    """
    missing = sorted(set(labels.tolist()) - set(unseen_labels.tolist()))
    if missing:
        raise InvalidDataError(
            f"no unseen sample of classes {missing} was given; one at least of every class in the forget set was"
            " expected, best a hundred"
        )
    place = torch.empty_like(member_confidence)
    for label in labels.unique():
        own = labels == label
        known = unseen_confidence[unseen_labels == label]
        place[own] = (member_confidence[own, None] > known).float().mean(dim=1)
    # Members above every unseen sample share the place 1; how sure the model is of them orders them.
    order = member_confidence.argsort(stable=True)
    order = order[place[order].argsort(stable=True)]
    spread = torch.empty_like(place)
    spread[order] = (torch.arange(len(order), device=place.device, dtype=place.dtype) + 0.5) / len(order)
    target = torch.empty_like(place)
    for label in labels.unique():
        own = labels == label
        target[own] = torch.quantile(unseen_confidence[unseen_labels == label], spread[own])
    return target
