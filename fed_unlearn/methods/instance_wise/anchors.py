"""Anchors: images for which the unlearned model must keep the original model's outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from fed_unlearn.data.images import ImageSet
from fed_unlearn.logits import batch_slices, predict_logits, sent
from fed_unlearn.methods.parts.attacks import pgd
from fed_unlearn.methods.parts.labels import random_allowed
from fed_unlearn.methods.parts.workspace import Workspace

# Share of the forget sample in a blend. A blend with less is not near the sample; one with more would be forgotten too.
BLEND_RANGE = (0.3, 0.9)
# Most blends of all samples together, and most adversarial examples, because a forget set may be a whole class.
MOST_IMAGES = 4096
PARTNERS = 512  # number of retained images that forget samples are blended with
MOST_NUMBERS = 2**26  # most float32 values of one kind of anchors: a quarter of a gigabyte


def most_images(image_shape: tuple[int, int, int]) -> int:
    """Most anchors of one kind for images of a shape (channels, height, width)."""
    channels, height, width = image_shape
    return max(1, min(MOST_IMAGES, MOST_NUMBERS // (channels * height * width)))


@dataclass(frozen=True, kw_only=True)
class AnchorSettings:
    """The images that become anchors.

    Attributes
    ----------
    retained : int
        Most retained samples among the anchors.
    blends : int
        Number of blends of each forget sample with other images. All blends together are at most :func:`most_images`.
    adversarial : int
        Number of adversarial examples of each forget sample towards random other classes, bounded in the same way.
    adversarial_bound, adversarial_step_size : float
        L2 norm of the whole change of an image, and of one step.
    adversarial_steps : int
        Number of steps in which an adversarial example is searched.
    """

    retained: int
    blends: int
    adversarial: int = 0
    adversarial_bound: float = 4.0
    adversarial_step_size: float = 0.1
    adversarial_steps: int = 100


@dataclass(frozen=True)
class AnchorPool:
    """Anchor images and the original model's logits for them, computed once.

    Attributes
    ----------
    images : Tensor of shape (n, channels, height, width)
        The anchors.
    logits : Tensor of shape (n, classes)
        The original model's logits.
    """

    images: Tensor
    logits: Tensor

    @classmethod
    def build(cls, work: Workspace, settings: AnchorSettings) -> Self | None:
        """Draw retained samples, blend forget samples with other images, and search adversarial examples of them.

        Parameters
        ----------
        work : Workspace
            The samples. Without a retain set, forget samples are blended with each other and with uniform noise.
        settings : AnchorSettings
            The images that become anchors.

        Returns
        -------
        AnchorPool or None
            None if the settings give no image.
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
        """Draw ``count`` anchors with replacement; return their images and logits."""
        indices = sent(torch.randint(len(self.images), (count,), generator=generator), self.images.device)
        return self.images[indices], self.logits[indices]


def blend(images: Tensor, partners: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Mix each image with randomly drawn partners.

    Parameters
    ----------
    images : Tensor of shape (n, channels, height, width)
        The images to mix.
    partners : Tensor of shape (m, channels, height, width)
        The images that partners are drawn from.
    count : int
        Number of blends of each image.
    generator : torch.Generator
        Source of the draws, on the CPU.

    Returns
    -------
    Tensor of shape (n * count, channels, height, width)
        ``share * image + (1 - share) * partner``, with a share uniform in :data:`BLEND_RANGE`.
    """
    repeated = images.repeat_interleave(count, dim=0)
    drawn = torch.randint(len(partners), (len(repeated),), generator=generator).to(partners.device)
    low, high = BLEND_RANGE
    share = (low + (high - low) * torch.rand(len(repeated), 1, 1, 1, generator=generator)).to(images.device)
    return share * repeated + (1 - share) * partners[drawn]


def _drawn(work: Workspace, wanted: int) -> tuple[Tensor, Tensor, int]:
    """Images and labels of the forget samples that become anchors, and the number of anchors of each."""
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
        pgd(
            work.original,
            sources.images[part],
            targets[part],
            bound=settings.adversarial_bound,
            step_size=settings.adversarial_step_size,
            steps=settings.adversarial_steps,
            norm="l2",
            targeted=True,
            passes=work.passes,
        )
        for part in batch_slices(sources, sources.labels.device)
    ]
    return torch.cat(found)
