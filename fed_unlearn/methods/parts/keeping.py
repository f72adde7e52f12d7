"""What an instance-wise method does for all other images while it changes the answers on a few."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from fed_unlearn.methods.base import Workspace
from fed_unlearn.methods.instance_wise.anchors import AnchorPool
from fed_unlearn.methods.parts.batches import Batches


class Keeping(Protocol):
    """One step's share of a method that has the forget samples' losses already."""

    def forward(self, work: Workspace, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of forget images (n, channels, height, width), and the loss of what is to be kept, a scalar."""
        ...

    def weighed(self, losses: Tensor) -> Tensor:
        """The forget samples' losses, of shape (n,), as the scalar that is added to it."""
        ...


@dataclass(frozen=True)
class Unkept:
    """Nothing is kept."""

    def forward(self, work: Workspace, images: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Keeping`."""
        work.passes.add(forward=len(images), backward=len(images))
        logits: Tensor = work.model(images.contiguous(memory_format=torch.channels_last))
        return logits.float(), torch.zeros((), device=images.device)

    def weighed(self, losses: Tensor) -> Tensor:
        """Their sum."""
        return losses.sum()


@dataclass(frozen=True)
class Anchored(Unkept):
    """The original's logits on a pool of images: ``weight * mean |f(x) - f0(x)|^2``.

    Attributes
    ----------
    pool : AnchorPool
    weight : float
    batch_size : int
        Anchors in one step.
    """

    pool: AnchorPool
    weight: float
    batch_size: int

    def forward(self, work: Workspace, images: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Keeping`."""
        anchor_images, before = self.pool.draw(self.batch_size, work.generator)
        logits, anchored = _together(work, images, anchor_images)
        return logits, self._weighted(anchored, before)

    def change(self, work: Workspace) -> Tensor:
        """The same loss without forget samples."""
        anchor_images, before = self.pool.draw(self.batch_size, work.generator)
        work.passes.add(forward=len(anchor_images), backward=len(anchor_images))
        return self._weighted(work.model(anchor_images).float(), before)

    def _weighted(self, anchored: Tensor, before: Tensor) -> Tensor:
        return self.weight * (anchored - before).square().sum(dim=1).mean()


@dataclass(frozen=True)
class Joint:
    """Retained samples are trained on under their own labels, in every step others.

    BatchNorm normalises by the whole batch, and its statistics follow: frozen ones lag behind the weights and cost
    accuracy (two points on All-CNN and CIFAR-10), and forget samples that are normalised otherwise than retained ones
    destroy the model.

    Attributes
    ----------
    batches : iterator
        Of retained samples.
    forget_weight : float
        Of the mean over those forget samples that have a loss, beside the retained samples' mean.
    anchored : Anchored or None
        What is kept besides.
    """

    batches: Batches
    forget_weight: float
    anchored: Anchored | None

    def forward(self, work: Workspace, images: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Keeping`."""
        _, retained, labels = next(self.batches)
        with following_statistics(work.model):
            logits, answers = _together(work, images, retained)
        kept = functional.cross_entropy(answers, labels)
        return logits, kept if self.anchored is None else kept + self.anchored.change(work)

    def weighed(self, losses: Tensor) -> Tensor:
        """The weighted mean over samples that have a loss: the last of many are pushed as the first ones were."""
        return self.forget_weight * losses.sum() / (losses != 0).sum().clamp(min=1)


def _together(work: Workspace, images: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of both in one pass."""
    work.passes.add(forward=len(images) + len(others), backward=len(images) + len(others))
    together = torch.cat([images, others]).contiguous(memory_format=torch.channels_last)
    logits, of_others = work.model(together).float().split([len(images), len(others)])
    return logits, of_others


@contextmanager
def following_statistics(model: nn.Module) -> Iterator[None]:
    """BatchNorm normalises by the batch and moves its statistics inside; dropout and all else stay as they are."""
    layers = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    modes = [layer.training for layer in layers]
    for layer in layers:
        layer.train()
    try:
        yield
    finally:
        for layer, mode in zip(layers, modes, strict=True):
            layer.training = mode
