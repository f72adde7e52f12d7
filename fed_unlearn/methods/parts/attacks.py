"""Batched gradient attacks in pixel space: FGSM (Goodfellow et al., 2015) and PGD (Madry et al., 2018).

Bounds and steps are in pixels, and pixels stay in [0, 1], whether the model normalises images itself or gets them
normalised. Gradients are taken with respect to the images only. The model is in evaluation mode during an attack.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fed_unlearn.data.domain import PIXELS, InputDomain
from fed_unlearn.logits import evaluation_mode
from fed_unlearn.model_inputs import model_inputs
from fed_unlearn.pass_counter import PassCounter

_SMALLEST_NORM = 1e-12


def fgsm(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    bound: float,
    targeted: bool = False,
    domain: InputDomain = PIXELS,
    passes: PassCounter | None = None,
) -> Tensor:
    """Take one signed gradient step of length ``bound``: ``clip(x + bound * sign(grad CE(f(x), y)), 0, 1)``.

    The parameters and the result are those of :func:`pgd`.
    """
    return pgd(
        model, images, labels, bound=bound, step_size=bound, steps=1, targeted=targeted, domain=domain, passes=passes
    )


def pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    bound: float,
    step_size: float,
    steps: int,
    norm: Literal["linf", "l2"] = "linf",
    targeted: bool = False,
    domain: InputDomain = PIXELS,
    passes: PassCounter | None = None,
) -> Tensor:
    """Take projected gradient steps inside a ball around the images. The search starts at the images themselves.

    Parameters
    ----------
    model : nn.Module
        Maps images to logits. It is not changed.
    images : Tensor of shape (n, channels, height, width)
        Images as the model reads them, on its device.
    labels : Tensor of shape (n,), int64
        The classes to move away from, or to move towards if ``targeted``.
    bound : float
        Radius of the ball: the largest change of a pixel, or the largest L2 norm of the change of an image. Pixels are
        in [0, 1].
    step_size : float
        Length of one step, in the same norm.
    steps : int
        Number of steps.
    norm : {"linf", "l2"}, default "linf"
        The norm that the ball and the steps are measured in.
    targeted : bool, default False
        Whether to descend the loss instead of ascending it.
    domain : InputDomain, default pixels in [0, 1]
        What the images are.
    passes : PassCounter, optional
        Counts one forward and one backward pass for each image and step.

    Returns
    -------
    Tensor of shape (n, channels, height, width)
        The moved images, as the model reads them.

    Raises
    ------
    InvalidDataError
        If the domain is not one of pixels.
    """
    direction = -1.0 if targeted else 1.0
    pixels = domain.to_pixels(images.detach())
    moved = pixels
    with evaluation_mode(model), torch.enable_grad():
        for _ in range(steps):
            point = moved.detach().requires_grad_()
            # The sum keeps an image's gradient independent of how many other images are in the batch.
            loss = functional.cross_entropy(
                model(model_inputs(model, domain.from_pixels(point), pack=False)).float(), labels, reduction="sum"
            )
            (gradient,) = torch.autograd.grad(loss, point)
            if norm == "linf":
                change = (moved + direction * (gradient.sign() * step_size) - pixels).clamp(-bound, bound)
            else:
                change = moved + direction * (gradient * (step_size / _norms(gradient))) - pixels
                change = change * (bound / _norms(change)).clamp(max=1)
            moved = (pixels + change).clamp(0, 1)
            if passes is not None:
                passes.add(forward=len(images), backward=len(images))
    return domain.from_pixels(moved.detach())


def _norms(batch: Tensor) -> Tensor:
    """L2 norm of each image, of a shape that broadcasts over the batch."""
    norms: Tensor = torch.linalg.vector_norm(batch.flatten(1), dim=1).clamp(min=_SMALLEST_NORM)
    return norms.view(-1, *[1] * (batch.ndim - 1))
