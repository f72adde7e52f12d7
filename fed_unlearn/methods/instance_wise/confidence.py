"""The confidence that a model would have in forget samples if it had never been trained on them."""

from __future__ import annotations

import torch
from torch import Tensor

from fed_unlearn.errors import InvalidDataError


def unseen_confidence(
    member_confidence: Tensor, labels: Tensor, unseen_confidence: Tensor, unseen_labels: Tensor
) -> Tensor:
    """Target confidence of each member, such that the members look like the unseen samples of their classes.

    A member's place is the share of the unseen samples of its class that are less confident. Training moves the places
    of members towards 1. They are therefore spread evenly over (0, 1), in the same order, as those of unseen samples
    would be. The target is the quantile of the unseen samples at the new place. A class without unseen samples is
    compared with those of all classes.

    Parameters
    ----------
    member_confidence, labels : Tensor of shape (n,)
        Confidence in the members' own classes, and those classes.
    unseen_confidence, unseen_labels : Tensor of shape (m,)
        Confidence and labels of the unseen samples.

    Returns
    -------
    Tensor of shape (n,)

    Raises
    ------
    InvalidDataError
        If there is no unseen sample.
    """
    if len(unseen_labels) == 0:
        raise InvalidDataError(
            "no unseen sample was given; expected some of every class in the forget set, a hundred of each if possible"
        )
    known = {
        label: own if len(own := unseen_confidence[unseen_labels == label]) else unseen_confidence
        for label in labels.unique().tolist()
    }
    place = torch.empty_like(member_confidence)
    for label, references in known.items():
        own = labels == label
        place[own] = (member_confidence[own, None] > references).float().mean(dim=1)
    # Members above every unseen sample share the place 1. They are ordered by their confidence.
    order = member_confidence.argsort(stable=True)
    order = order[place[order].argsort(stable=True)]
    spread = torch.empty_like(place)
    spread[order] = (torch.arange(len(order), device=place.device, dtype=place.dtype) + 0.5) / len(order)
    target = torch.empty_like(place)
    for label, references in known.items():
        own = labels == label
        target[own] = torch.quantile(references, spread[own])
    return target
