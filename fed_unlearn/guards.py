"""Samples that repair guards: what a method taught them is trained again, mixed into retained samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from fed_unlearn.data.images import ImageSet
from fed_unlearn.data.joined import concatenate
from fed_unlearn.data.sample_set import Indices, SampleSet

UNGUARDED = -1
"""Label of samples that are not guarded."""


@dataclass(frozen=True)
class Guard:
    """Forget samples of one request and the labels that guard them.

    Attributes
    ----------
    samples : SampleSet
        The samples, under their old labels.
    labels : Tensor of shape (n,), int64
        The labels that the method taught. ``UNGUARDED`` for samples that repair leaves out.
    """

    samples: SampleSet
    labels: Tensor

    def guarded(self) -> Guard:
        """The guard without samples that repair leaves out."""
        kept = (self.labels != UNGUARDED).nonzero().flatten()
        return self if len(kept) == len(self.labels) else Guard(self.samples.subset(kept), self.labels[kept])


class GuardedSet(SampleSet):
    """Retained and guarded samples, whose loss is :func:`guarded_cross_entropy`.

    Training that treats it as an ordinary set of samples uses the guard labels, without the margin.

    Parameters
    ----------
    samples : SampleSet
        Retained samples, and guarded samples under their guard labels.
    old_labels : Tensor of shape (n,), int64
        The class that each guarded sample had. ``UNGUARDED`` for retained samples.
    margin : float
        Distance, in logits, by which the old class must stay below the others. 0 means no such term.
    """

    def __init__(self, samples: SampleSet, old_labels: Tensor, margin: float) -> None:
        self.samples = samples
        self.labels = samples.labels
        self.ids = samples.ids
        self.domain = samples.domain
        self.old_labels = old_labels
        self.margin = margin

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self.samples.input_shape

    @property
    def images(self) -> Tensor:
        """The images in memory, where the samples are an ImageSet.

        Raises
        ------
        AttributeError
            If they are none: read them by :meth:`batch`.
        """
        return _as_images(self.samples).images

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width, where the samples are an ImageSet; else as :attr:`images`."""
        return _as_images(self.samples).image_shape

    def batch(self, indices: Indices = slice(None)) -> tuple[Tensor, Tensor]:
        """Inputs and labels, those of guarded samples being guard labels, at some positions."""
        return self.samples.batch(indices)

    def batches(self, positions: Iterable[Indices]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the :meth:`batch` of each set of positions. The next ones may be read ahead."""
        return self.samples.batches(positions)

    def subset(self, indices: Tensor) -> GuardedSet:
        """The samples at ``indices`` (int64), in that order, with their ids and guards."""
        chosen = self.old_labels[indices.to(self.old_labels.device)]
        return GuardedSet(self.samples.subset(indices), chosen, self.margin)

    def relabelled(self, labels: Tensor) -> GuardedSet:
        """The same inputs, ids and guards; the samples are taught other labels."""
        return GuardedSet(self.samples.relabelled(labels), self.old_labels, self.margin)

    def located(self) -> list[tuple[Dataset[Any], int]]:
        """Where each sample is read from."""
        return self.samples.located()

    def evaluated(self) -> GuardedSet:
        """The same samples and guards, read without random augmentation."""
        return GuardedSet(self.samples.evaluated(), self.old_labels, self.margin)

    def to(self, device: torch.device) -> GuardedSet:
        """The same samples and guards, with batches and labels on a device."""
        return GuardedSet(self.samples.to(device), self.old_labels.to(device), self.margin)


def _as_images(samples: SampleSet) -> ImageSet:
    if not isinstance(samples, ImageSet):
        raise AttributeError(f"a {type(samples).__name__} holds no images in memory; read its inputs by batch()")
    return samples


def guard_retained(retained: SampleSet, guards: Sequence[Guard], *, weight: int, margin: float) -> SampleSet:
    """Mix guarded samples into retained ones.

    Parameters
    ----------
    retained : SampleSet
        The retained samples.
    guards : sequence of Guard
        The samples to guard.
    weight : int
        Number of copies of each guarded sample in the mix.
    margin : float
        Margin of the hinge, as in :class:`GuardedSet`.

    Returns
    -------
    SampleSet
        The mix, or ``retained`` itself if there is nothing to guard.
    """
    repeated = [guard.guarded() for guard in guards for _ in range(weight) if bool((guard.labels != UNGUARDED).any())]
    if not repeated:
        return retained
    mixed = concatenate(retained, *(guard.samples.evaluated().relabelled(guard.labels) for guard in repeated))
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
        Margin of the hinge, as in :class:`GuardedSet`.

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
