"""Anchors: images for which the unlearned model must keep the original model's outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from fed_unlearn.data.domain import PIXELS, InputDomain
from fed_unlearn.data.tensors import TensorSet
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


def most_images(input_shape: tuple[int, ...]) -> int:
    """Maximum number of anchors of one kind for images, or other inputs, of a shape."""
    return max(1, min(MOST_IMAGES, MOST_NUMBERS // max(1, math.prod(input_shape))))


@dataclass(frozen=True, kw_only=True)
class AnchorSettings:
    """The images that become anchors.

    Attributes
    ----------
    retained : int
        Maximum number of retained samples among the anchors.
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
    images : Tensor of shape (n, ...)
        The anchors, as the model reads them.
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
            The samples. Without a retain set, forget samples are blended with each other and, but for tokens, with
            uniform noise.
        settings : AnchorSettings
            The images that become anchors.

        Returns
        -------
        AnchorPool or None
            None if the settings give no image.
        """
        parts = []
        if work.retain is not None and settings.retained:
            most = min(settings.retained, most_images(work.retain.input_shape))
            chosen = torch.randperm(len(work.retain), generator=work.generator)[:most]
            parts.append(work.retain.evaluated().batch(chosen.to(work.retain.labels.device))[0])
        if settings.blends:
            images, _, each = _drawn(work, settings.blends)
            parts.append(blend(images, _partners(work, images), each, work.generator, work.forget.domain))
        if settings.adversarial:
            parts.append(_adversarial_examples(work, settings))
        if not parts:
            return None
        images = torch.cat(parts)
        unlabelled = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        logits = predict_logits(work.original, TensorSet(images, unlabelled))
        work.passes.add(forward=len(images))
        return cls(images, logits.to(images.device))

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw ``count`` anchors with replacement; return their images and logits."""
        indices = sent(torch.randint(len(self.images), (count,), generator=generator), self.images.device)
        return self.images[indices], self.logits[indices]


def blend(
    images: Tensor, partners: Tensor, count: int, generator: torch.Generator, domain: InputDomain = PIXELS
) -> Tensor:
    """Mix each image with randomly drawn partners.

    Parameters
    ----------
    images : Tensor of shape (n, ...)
        The images, or other inputs, to mix.
    partners : Tensor of shape (m, ...)
        The inputs that partners are drawn from.
    count : int
        Number of blends of each image.
    generator : torch.Generator
        Source of the draws, on the CPU.
    domain : InputDomain, default pixels in [0, 1]
        What the inputs are. Tokens are not averaged: that share of them is taken from each.

    Returns
    -------
    Tensor of shape (n * count, ...)
        ``share * image + (1 - share) * partner``, with a share uniform in :data:`BLEND_RANGE`.
    """
    repeated = images.repeat_interleave(count, dim=0)
    drawn = torch.randint(len(partners), (len(repeated),), generator=generator).to(partners.device)
    low, high = BLEND_RANGE
    share = (low + (high - low) * torch.rand(len(repeated), generator=generator)).to(images.device)
    return domain.blended(repeated, partners[drawn], share, generator)


def _drawn(work: Workspace, wanted: int) -> tuple[Tensor, Tensor, int]:
    """Images and labels of the forget samples that become anchors, and the number of anchors of each."""
    chosen = torch.arange(len(work.forget))
    most = most_images(work.forget.input_shape)
    if len(work.forget) > most:
        chosen = torch.randperm(len(work.forget), generator=work.generator)[:most]
    images, labels = work.forget.evaluated().batch(chosen.to(work.forget.labels.device))
    return images, labels, max(1, min(wanted, most // len(chosen)))


def _partners(work: Workspace, images: Tensor) -> Tensor:
    if work.retain is not None:
        chosen = torch.randperm(len(work.retain), generator=work.generator)[:PARTNERS]
        return work.retain.evaluated().batch(chosen.to(work.retain.labels.device))[0]
    noise = work.forget.domain.noise_like(images, work.generator)
    return images if noise is None else torch.cat([images, noise])


def _adversarial_examples(work: Workspace, settings: AnchorSettings) -> Tensor:
    """Targeted L2-PGD examples of forget samples (Cha et al., 2024, section 4.2)."""
    images, labels, each = _drawn(work, settings.adversarial)
    sources = TensorSet(images.repeat_interleave(each, dim=0), labels.repeat_interleave(each))
    targets = random_allowed(sources.labels, work.excluded_classes, work.class_count, work.generator)
    found = [
        pgd(
            work.original,
            sources.inputs[part],
            targets[part],
            bound=settings.adversarial_bound,
            step_size=settings.adversarial_step_size,
            steps=settings.adversarial_steps,
            norm="l2",
            targeted=True,
            domain=work.forget.domain,
            passes=work.passes,
        )
        for part in batch_slices(sources, sources.labels.device)
    ]
    return torch.cat(found)
