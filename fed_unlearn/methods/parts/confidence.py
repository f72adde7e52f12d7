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
    places of members crowd at the upper end; evenly spread, they are those of unseen samples. A class without
    any unseen sample is held against those of all classes.

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
        If there is no unseen sample at all.
    """
    if len(unseen_labels) == 0:
        raise InvalidDataError(
            "no unseen sample was given; some of every class in the forget set were expected, best a hundred each"
        )
    known = {
        label: own if len(own := unseen_confidence[unseen_labels == label]) else unseen_confidence
        for label in labels.unique().tolist()
    }
    place = torch.empty_like(member_confidence)
    for label, references in known.items():
        own = labels == label
        place[own] = (member_confidence[own, None] > references).float().mean(dim=1)
    # Members above every unseen sample share the place 1; how sure the model is of them orders them.
    order = member_confidence.argsort(stable=True)
    order = order[place[order].argsort(stable=True)]
    spread = torch.empty_like(place)
    spread[order] = (torch.arange(len(order), device=place.device, dtype=place.dtype) + 0.5) / len(order)
    target = torch.empty_like(place)
    for label, references in known.items():
        own = labels == label
        target[own] = torch.quantile(references, spread[own])
    return target
