"""The samples of each training step, and what can be read off their logits at no cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fed_unlearn.data.images import Samples
from fed_unlearn.logits import sent


@dataclass(frozen=True)
class Batch:
    """The samples of one step, forget samples before retained ones, and the logits of the model for them.

    Attributes
    ----------
    step : int
        From 1.
    positions : Tensor of shape (f,), int64
        Where the forget samples stand in the forget set.
    images, labels, logits : Tensor of shape (f + r, ...)
        ``logits`` carry gradients.
    """

    step: int
    positions: Tensor
    images: Tensor
    labels: Tensor
    logits: Tensor

    @property
    def forget_images(self) -> Tensor:
        """Shape (f, channels, height, width)."""
        return self.images[: len(self.positions)]

    @property
    def forget_labels(self) -> Tensor:
        """The labels that the forget samples were trained with, of shape (f,)."""
        return self.labels[: len(self.positions)]

    @property
    def forget_logits(self) -> Tensor:
        """Shape (f, classes)."""
        return self.logits[: len(self.positions)]

    @property
    def retain_images(self) -> Tensor:
        """Shape (r, channels, height, width)."""
        return self.images[len(self.positions) :]

    @property
    def retain_labels(self) -> Tensor:
        """Shape (r,)."""
        return self.labels[len(self.positions) :]

    @property
    def retain_logits(self) -> Tensor:
        """Shape (r, classes)."""
        return self.logits[len(self.positions) :]


Batches = Iterator[tuple[Tensor, Tensor, Tensor]]


def cycle(samples: Samples, batch_size: int, generator: torch.Generator) -> Batches:
    """Positions, images and labels of batches, in a new order each time through; without end."""
    while True:
        plan = sent(torch.randperm(len(samples), generator=generator), samples.labels.device).split(batch_size)
        for positions, (images, labels) in zip(plan, samples.batches(plan), strict=True):
            yield positions, images, labels


@dataclass
class Window:
    """What happened since the last look; kept on the device, so that adding to it waits for nothing."""

    losses: list[Tensor] = field(default_factory=list)
    right: list[Tensor] = field(default_factory=list)
    count: int = 0

    def add(self, loss: Tensor, batch: Batch, class_count: int) -> None:
        """Take in one step: its loss, detached, and how many of its forget samples were right before it."""
        self.losses.append(loss)
        self.right.append((batch.forget_logits.detach()[:, :class_count].argmax(dim=1) == batch.forget_labels).sum())
        self.count += len(batch.positions)

    def close(self) -> float:
        """Share of the window's forget samples that were right, 0 where it has none; empties it."""
        share = int(torch.stack(self.right).sum()) / self.count if self.count else 0.0
        self.losses.clear()
        self.right.clear()
        self.count = 0
        return share
