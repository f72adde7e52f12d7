"""Images on which an unlearned model must answer as before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from fed_unlearn.data.images import ImageSet
from fed_unlearn.inference import device_of, predict_logits
from fed_unlearn.methods.base import Workspace

# Share of the forget sample in a blend: less is no neighbour of it, more would be forgotten with it.
BLEND_RANGE = (0.3, 0.9)


@dataclass(frozen=True)
class AnchorPool:
    """Anchor images and the original model's logits on them, computed once.

    Attributes
    ----------
    images : Tensor of shape (n, channels, height, width)
    logits : Tensor of shape (n, classes)
    """

    images: Tensor
    logits: Tensor

    @classmethod
    def build(cls, work: Workspace, retained: int, blends: int) -> Self | None:
        """Draw retained samples, and blends of each forget sample with other images.

        Parameters
        ----------
        work : Workspace
            Without retain data, forget samples are blended with each other and with uniform noise.
        retained : int
            At most so many retained samples.
        blends : int
            So many blends of each forget sample.

        Returns
        -------
        AnchorPool or None
            None where there is no image to be had.
        """
        parts = []
        if work.retain is not None and retained:
            chosen = torch.randperm(len(work.retain), generator=work.generator)[:retained]
            parts.append(work.retain.batch(chosen)[0])
        if blends:
            parts.append(blend(work.forget.batch()[0], _partners(work), blends, work.generator))
        if not parts:
            return None
        images = torch.cat(parts)
        logits = predict_logits(work.original, ImageSet(images, torch.zeros(len(images), dtype=torch.int64)))
        work.passes.add(forward=len(images))
        device = device_of(work.model)
        return cls(images.to(device), logits.to(device))

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images and logits of ``count`` anchors, drawn with replacement."""
        indices = torch.randint(len(self.images), (count,), generator=generator).to(self.images.device)
        return self.images[indices], self.logits[indices]


def blend(images: Tensor, partners: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Each image ``count`` times, mixed with partners drawn at random.

    Parameters
    ----------
    images : Tensor of shape (n, channels, height, width)
    partners : Tensor of shape (m, channels, height, width)
    count : int
    generator : torch.Generator

    Returns
    -------
    Tensor of shape (n * count, channels, height, width)
        ``share * image + (1 - share) * partner``, the share uniform in :data:`BLEND_RANGE`.
    """
    repeated = images.repeat_interleave(count, dim=0)
    drawn = torch.randint(len(partners), (len(repeated),), generator=generator)
    low, high = BLEND_RANGE
    share = low + (high - low) * torch.rand(len(repeated), 1, 1, 1, generator=generator)
    return share * repeated + (1 - share) * partners[drawn]


def _partners(work: Workspace) -> Tensor:
    if work.retain is not None:
        return work.retain.batch()[0]
    images = work.forget.batch()[0]
    return torch.cat([images, torch.rand(images.shape, generator=work.generator)])
