"""Guarded repair: forget samples are mixed into retained data, so that training does not bring them back.

Training on retained data alone restores the old decision boundary by generalisation. A guarded sample is among the
training samples under the label that its method gave it. A margin also keeps the logit of its old class below the
others. The margin decides how long the forgetting lasts after the guard is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fed_unlearn.data.images import ImageSet, concatenate

UNGUARDED = -1
"""Label of samples that are not guarded."""


@dataclass(frozen=True)
class Guard:
    """Forget samples of one request and the labels that guard them.

    Attributes
    ----------
    samples : ImageSet
        The samples, under their old labels.
    labels : Tensor of shape (n,), int64
        The labels that the method taught. ``UNGUARDED`` for samples that repair leaves out.
    """

    samples: ImageSet
    labels: Tensor

    def guarded(self) -> Guard:
        """The guard without samples that repair leaves out."""
        kept = (self.labels != UNGUARDED).nonzero().flatten()
        return self if len(kept) == len(self.labels) else Guard(self.samples.subset(kept), self.labels[kept])


class GuardedSet(ImageSet):
    """Retained and guarded samples, whose loss is :func:`guarded_cross_entropy`.

    Training that treats it as an ordinary ImageSet uses the guard labels, without the margin.

    Parameters
    ----------
    samples : ImageSet
        Retained samples, and guarded samples under their guard labels.
    old_labels : Tensor of shape (n,), int64
        The class that each guarded sample had. ``UNGUARDED`` for retained samples.
    margin : float
        Distance, in logits, by which the old class must stay below the others. 0 means no such term.
    """

    def __init__(self, samples: ImageSet, old_labels: Tensor, margin: float) -> None:
        super().__init__(samples.images, samples.labels, samples.ids)
        self.old_labels = old_labels
        self.margin = margin


def guard_retained(retained: ImageSet, guards: Sequence[Guard], *, weight: int, margin: float) -> ImageSet:
    """Mix guarded samples into retained ones.

    Parameters
    ----------
    retained : ImageSet
        The retained samples.
    guards : sequence of Guard
        The samples to guard.
    weight : int
        Number of copies of each guarded sample in the mix.
    margin : float
        As in :class:`GuardedSet`.

    Returns
    -------
    ImageSet
        The mix, or ``retained`` itself if there is nothing to guard.
    """
    repeated = [guard.guarded() for guard in guards for _ in range(weight) if bool((guard.labels != UNGUARDED).any())]
    if not repeated:
        return retained
    mixed = concatenate(retained, *(guard.samples.relabelled(guard.labels) for guard in repeated))
    old_labels = [torch.full((len(retained),), UNGUARDED), *(guard.samples.labels for guard in repeated)]
    return GuardedSet(mixed, torch.cat(old_labels), margin)


def guarded_cross_entropy(logits: Tensor, labels: Tensor, old_labels: Tensor, margin: float) -> Tensor:
    """Mean cross-entropy plus, for guarded samples, a hinge that keeps the old class below the others.

    The hinge is ``max(0, margin - (log sum exp of the other logits - logit of the old class))``.

    Parameters
    ----------
    logits : Tensor of shape (batch, classes)
        Outputs of the model.
    labels, old_labels : Tensor of shape (batch,), int64
        Present and former labels. ``old_labels`` is ``UNGUARDED`` for retained samples.
    margin : float
        As in :class:`GuardedSet`.

    Returns
    -------
    Tensor
        A scalar: both terms, summed over the batch and divided by its size.
    """
    loss = functional.cross_entropy(logits, labels)
    guarded = old_labels != UNGUARDED
    if margin <= 0 or not bool(guarded.any()):
        return loss
    guarded_logits, old = logits[guarded], old_labels[guarded, None]
    others = guarded_logits.scatter(1, old, -torch.inf).logsumexp(1)
    hinge = functional.relu(margin - (others - guarded_logits.gather(1, old)[:, 0]))
    return loss + hinge.sum() / len(logits)
