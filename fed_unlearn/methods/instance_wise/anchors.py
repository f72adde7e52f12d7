"""Images on which an unlearned model must answer as before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from fed_unlearn.data.images import ImageSet
from fed_unlearn.logits import batch_slices, predict_logits, sent
from fed_unlearn.methods.base import Workspace
from fed_unlearn.methods.parts.attacks import pgd_l2
from fed_unlearn.methods.parts.labels import random_allowed

# Share of the forget sample in a blend: less is no neighbour of it, more would be forgotten with it.
BLEND_RANGE = (0.3, 0.9)
# Bound on the blends, and on the adversarial examples, of all samples together: a forget set may be a whole class.
MOST_IMAGES = 4096
PARTNERS = 512  # retained images that forget samples are blended with
MOST_NUMBERS = 2**26  # pixels times channels, of any one kind of anchors: a quarter of a gigabyte


def most_images(image_shape: tuple[int, int, int]) -> int:
    """How many images of a shape (channels, height, width) any one kind of anchors may have."""
    channels, height, width = image_shape
    return max(1, min(MOST_IMAGES, MOST_NUMBERS // (channels * height * width)))


@dataclass(frozen=True, kw_only=True)
class AnchorSettings:
    """Which images are anchors.

    Attributes
    ----------
    retained : int
        At most so many retained samples, where there are any.
    blends : int
        So many of each forget sample with other images; fewer where they would be more than :func:`most_images`.
    adversarial : int
        So many adversarial examples of each forget sample, towards random other classes; fewer likewise.
    adversarial_bound, adversarial_step_size : float
        L2 norms of the change of an image, and of one step towards it.
    adversarial_steps : int
    """

    retained: int
    blends: int
    adversarial: int = 0
    adversarial_bound: float = 4.0
    adversarial_step_size: float = 0.1
    adversarial_steps: int = 100


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
    def build(cls, work: Workspace, settings: AnchorSettings) -> Self | None:
        """Draw retained samples, blend forget samples with other images, and search adversarial examples of them.

        Parameters
        ----------
        work : Workspace
            Without retain data, forget samples are blended with each other and with uniform noise.
        settings : AnchorSettings

        Returns
        -------
        AnchorPool or None
            None where there is no image to be had.
        """
        parts = []
        if work.retain is not None and settings.retained:
            most = min(settings.retained, most_images(work.retain.image_shape))
            chosen = torch.randperm(len(work.retain), generator=work.generator)[:most]
            parts.append(work.retain.batch(chosen.to(work.retain.labels.device))[0])
        if settings.blends:
            images, _, each = _drawn(work, settings.blends)
            parts.append(blend(images, _partners(work, images), each, work.generator))
        if settings.adversarial:
            parts.append(_adversarial_examples(work, settings))
        if not parts:
            return None
        images = torch.cat(parts)
        unlabelled = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        logits = predict_logits(work.original, ImageSet(images, unlabelled))
        work.passes.add(forward=len(images))
        return cls(images, logits.to(images.device))

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images and logits of ``count`` anchors, drawn with replacement."""
        indices = sent(torch.randint(len(self.images), (count,), generator=generator), self.images.device)
        return self.images[indices], self.logits[indices]


def blend(images: Tensor, partners: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Each image ``count`` times, mixed with partners drawn at random.

    Parameters
    ----------
    images : Tensor of shape (n, channels, height, width)
    partners : Tensor of shape (m, channels, height, width)
    count : int
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    Tensor of shape (n * count, channels, height, width)
        ``share * image + (1 - share) * partner``, the share uniform in :data:`BLEND_RANGE`.
    """
    repeated = images.repeat_interleave(count, dim=0)
    drawn = torch.randint(len(partners), (len(repeated),), generator=generator).to(partners.device)
    low, high = BLEND_RANGE
    share = (low + (high - low) * torch.rand(len(repeated), 1, 1, 1, generator=generator)).to(images.device)
    return share * repeated + (1 - share) * partners[drawn]


def _drawn(work: Workspace, wanted: int) -> tuple[Tensor, Tensor, int]:
    """Forget images and labels to make anchors of, and how many of each: all of them where the bound allows."""
    chosen = torch.arange(len(work.forget))
    most = most_images(work.forget.image_shape)
    if len(work.forget) > most:
        chosen = torch.randperm(len(work.forget), generator=work.generator)[:most]
    images, labels = work.forget.batch(chosen.to(work.forget.labels.device))
    return images, labels, max(1, min(wanted, most // len(chosen)))


def _partners(work: Workspace, images: Tensor) -> Tensor:
    if work.retain is not None:
        chosen = torch.randperm(len(work.retain), generator=work.generator)[:PARTNERS]
        return work.retain.batch(chosen.to(work.retain.labels.device))[0]
    noise = torch.rand(images.shape, generator=work.generator).to(images.device)
    return torch.cat([images, noise])


def _adversarial_examples(work: Workspace, settings: AnchorSettings) -> Tensor:
    """Targeted L2-PGD examples of forget samples (Cha et al., 2024, section 4.2)."""
    images, labels, each = _drawn(work, settings.adversarial)
    sources = ImageSet(images.repeat_interleave(each, dim=0), labels.repeat_interleave(each))
    targets = random_allowed(sources.labels, work.excluded_classes, work.class_count, work.generator)
    found = [
        pgd_l2(
            work.original,
            sources.images[part],
            targets[part],
            bound=settings.adversarial_bound,
            step_size=settings.adversarial_step_size,
            steps=settings.adversarial_steps,
            targeted=True,
            passes=work.passes,
        )
        for part in batch_slices(sources, sources.labels.device)
    ]
    return torch.cat(found)
