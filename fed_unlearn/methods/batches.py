"""The samples of each training step, and what can be read off their logits at no cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fed_unlearn.data.images import Samples


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
        plan = torch.randperm(len(samples), generator=generator).to(samples.labels.device).split(batch_size)
        for positions, (images, labels) in zip(plan, samples.batches(plan), strict=True):
            yield positions, images, labels


@dataclass
class Window:
    """What happened since the last look; kept on the device, so that adding to it waits for nothing."""

    losses: list[Tensor] = field(default_factory=list)
    right: list[Tensor] = field(default_factory=list)
    forget_count: int = 0
    retain_count: int = 0

    def add(self, loss: Tensor, batch: Batch, class_count: int) -> None:
        """Take in one step: its loss, detached, and how many of its samples were right before it."""
        right = batch.logits.detach()[:, :class_count].argmax(dim=1) == batch.labels
        forget_count = len(batch.positions)
        self.losses.append(loss)
        self.right.append(torch.stack([right[:forget_count].sum(), right[forget_count:].sum()]))
        self.forget_count += forget_count
        self.retain_count += len(right) - forget_count

    def close(self) -> tuple[float, float]:
        """Shares of the window's forget and retained samples that were right, 0 and 1 where it has none; empties it."""
        forget_right, retain_right = torch.stack(self.right).sum(dim=0).tolist()
        shares = (
            forget_right / self.forget_count if self.forget_count else 0.0,
            retain_right / self.retain_count if self.retain_count else 1.0,
        )
        self.losses.clear()
        self.right.clear()
        self.forget_count = self.retain_count = 0
        return shares
