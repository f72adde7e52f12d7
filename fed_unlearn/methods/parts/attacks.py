"""Batched gradient attacks in pixel space: FGSM (Goodfellow et al., 2015) and PGD (Madry et al., 2018).

Images are floats in [0, 1] and stay there; a model that normalises does so inside itself. Gradients are taken with
respect to the images only. Models are put in evaluation mode while they are attacked.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from fed_unlearn.logits import evaluation_mode
from fed_unlearn.methods.base import PassCounter

_SMALLEST_NORM = 1e-12


def fgsm(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    bound: float,
    targeted: bool = False,
    passes: PassCounter | None = None,
) -> Tensor:
    """One signed gradient step of length ``bound``: ``clip(x + bound * sign(grad CE(f(x), y)), 0, 1)``.

    Parameters
    ----------
    model : nn.Module
        Maps images to logits; never changed.
    images : Tensor of shape (n, channels, height, width), floats in [0, 1]
        On the model's device.
    labels : Tensor of shape (n,), int64
        The classes to move away from or, where ``targeted``, to move towards.
    bound : float
        Largest change of a pixel.
    targeted : bool, default False
        Descend the loss instead of ascending it.
    passes : PassCounter, optional
        Counts one forward and one backward pass an image.

    Returns
    -------
    Tensor of shape (n, channels, height, width)
    """
    return pgd(model, images, labels, bound=bound, step_size=bound, steps=1, targeted=targeted, passes=passes)


def pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    bound: float,
    step_size: float,
    steps: int,
    targeted: bool = False,
    passes: PassCounter | None = None,
) -> Tensor:
    """Projected gradient steps inside an L-infinity ball, started at the images themselves.

    Parameters
    ----------
    model, images, labels, targeted
        As in :func:`fgsm`.
    bound : float
        Largest change of a pixel.
    step_size : float
        Change of every pixel in one step.
    steps : int
        Number of steps.
    passes : PassCounter, optional
        Counts one forward and one backward pass an image and step.

    Returns
    -------
    Tensor of shape (n, channels, height, width)
    """
    return _descend(
        model,
        images,
        labels,
        step=lambda gradient: gradient.sign() * step_size,
        project=lambda change: change.clamp(-bound, bound),
        steps=steps,
        targeted=targeted,
        passes=passes,
    )


def pgd_l2(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    bound: float,
    step_size: float,
    steps: int,
    targeted: bool = False,
    passes: PassCounter | None = None,
) -> Tensor:
    """Projected gradient steps inside an L2 ball, started at the images themselves.

    Parameters
    ----------
    model, images, labels, targeted
        As in :func:`fgsm`.
    bound : float
        Largest L2 norm of the change of an image.
    step_size : float
        L2 norm of one step.
    steps : int
        Number of steps.
    passes : PassCounter, optional
        Counts one forward and one backward pass an image and step.

    Returns
    -------
    Tensor of shape (n, channels, height, width)
    """
    return _descend(
        model,
        images,
        labels,
        step=lambda gradient: gradient * (step_size / _norms(gradient)),
        project=lambda change: change * (bound / _norms(change)).clamp(max=1),
        steps=steps,
        targeted=targeted,
        passes=passes,
    )


def _norms(batch: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(batch.flatten(1), dim=1).clamp(min=_SMALLEST_NORM)
    return norms.view(-1, *[1] * (batch.ndim - 1))


def _descend(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    step: Callable[[Tensor], Tensor],
    project: Callable[[Tensor], Tensor],
    steps: int,
    targeted: bool,
    passes: PassCounter | None,
) -> Tensor:
    direction = -1.0 if targeted else 1.0
    images = images.detach()
    moved = images
    with evaluation_mode(model), torch.enable_grad():
        for _ in range(steps):
            point = moved.detach().requires_grad_()
            # Summed, so that an image's gradient does not depend on how many others are in the batch.
            loss = functional.cross_entropy(model(point), labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, point)
            change = project(moved + direction * step(gradient) - images)
            moved = (images + change).clamp(0, 1)
            if passes is not None:
                passes.add(forward=len(images), backward=len(images))
    return moved.detach()
