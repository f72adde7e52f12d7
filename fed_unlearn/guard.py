"""Guarded repair: forget samples mixed into retained data, so that training does not bring them back.

Training on retained data alone restores the old boundary by generalisation. A guarded sample stands among the training
samples under the label that its method gave it; a margin also keeps its old class below the others, which decides how
long the forgetting lasts when the guard has gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fed_unlearn.data.images import ImageSet, concatenate

UNGUARDED = -1


@dataclass(frozen=True)
class Guard:
    """Forget samples of one request, as its method left them.

    Attributes
    ----------
    samples : ImageSet
        Under their old labels.
    labels : Tensor of shape (n,), int64
        What the method taught them to be; ``UNGUARDED`` for samples that repair is to leave out.
    """

    samples: ImageSet
    labels: Tensor

    def guarded(self) -> Guard:
        """Without the samples that are to be left out."""
        kept = (self.labels != UNGUARDED).nonzero().flatten()
        return self if len(kept) == len(self.labels) else Guard(self.samples.subset(kept), self.labels[kept])


class GuardedSet(ImageSet):
    """Retained samples and guarded ones; :func:`guarded_cross_entropy` is its loss.

    Whoever trains on it as on any ImageSet gets the guard labels, without the margin.

    Parameters
    ----------
    samples : ImageSet
        Retained samples, and guarded ones under their guard labels.
    old_labels : Tensor of shape (n,), int64
        The class that each guarded sample had; ``UNGUARDED`` for retained samples.
    margin : float
        How far the old class is to stay below the others, in logits; 0 for no such term.
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
    guards : sequence of Guard
    weight : int
        How often each guarded sample stands in the mix.
    margin : float
        As in :class:`GuardedSet`.

    Returns
    -------
    ImageSet
        The retained samples themselves where there is nothing to guard.
    """
    repeated = [guard.guarded() for guard in guards for _ in range(weight) if bool((guard.labels != UNGUARDED).any())]
    if not repeated:
        return retained
    mixed = concatenate(retained, *(guard.samples.relabelled(guard.labels) for guard in repeated))
    old_labels = [torch.full((len(retained),), UNGUARDED), *(guard.samples.labels for guard in repeated)]
    return GuardedSet(mixed, torch.cat(old_labels), margin)


def guarded_cross_entropy(logits: Tensor, labels: Tensor, old_labels: Tensor, margin: float) -> Tensor:
    """Mean cross-entropy, and for guarded samples a hinge that keeps the old class below the others.

    The hinge is ``max(0, margin - (log sum exp of the other logits - logit of the old class))``.

    Parameters
    ----------
    logits : Tensor of shape (batch, classes)
    labels, old_labels : Tensor of shape (batch,), int64
        ``old_labels`` is ``UNGUARDED`` for retained samples.
    margin : float

    Returns
    -------
    Tensor
        A scalar: both terms summed over the batch and divided by its size.
    """
    loss = functional.cross_entropy(logits, labels)
    guarded = old_labels != UNGUARDED
    if margin <= 0 or not bool(guarded.any()):
        return loss
    guarded_logits, old = logits[guarded], old_labels[guarded, None]
    others = guarded_logits.scatter(1, old, -torch.inf).logsumexp(1)
    hinge = functional.relu(margin - (others - guarded_logits.gather(1, old)[:, 0]))
    return loss + hinge.sum() / len(logits)
