"""Curvature of a model's loss around its inputs (Moosavi-Dezfooli et al., CVPR 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fed_unlearn.data.domain import PIXELS, InputDomain
from fed_unlearn.model_inputs import model_inputs
from fed_unlearn.pass_counter import PassCounter


def curvature(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    step: float,
    create_graph: bool,
    domain: InputDomain = PIXELS,
    passes: PassCounter,
) -> Tensor:
    """Norm of the finite difference of input gradients, ``|grad l(x + step * z) - grad l(x)|`` (the paper's eq. 5).

    ``l`` is the cross-entropy with ``labels``. ``z`` is the sign of ``grad l(x)``, scaled to length 1.

    Parameters
    ----------
    model : nn.Module
        The model, in evaluation mode.
    images : Tensor of shape (n, channels, height, width)
        The points around which the curvature is measured.
    labels : Tensor of shape (n,), int64
        The classes in the loss.
    step : float
        Step of the finite difference, above 0. The paper's h.
    create_graph : bool
        Whether the result can be differentiated with respect to the model's parameters. ``z`` counts as constant.
    domain : InputDomain, default pixels in [0, 1]
        What the images are. Gradients and steps are those of pixels.
    passes : PassCounter
        Counts two forward and two backward passes for each image, and two more backward passes with ``create_graph``.

    Returns
    -------
    Tensor of shape (n,)
    """
    passes.add(forward=2 * len(images), backward=(4 if create_graph else 2) * len(images))
    with torch.enable_grad():
        pixels = domain.to_pixels(images)
        here = _input_gradient(model, domain, pixels, labels, create_graph)
        signs = here.detach().sign().flatten(1)
        direction = functional.normalize(signs, dim=1).view_as(pixels)
        there = _input_gradient(model, domain, pixels + step * direction, labels, create_graph)
    norms: Tensor = torch.linalg.vector_norm((there - here).flatten(1), dim=1)
    return norms


def _input_gradient(
    model: nn.Module, domain: InputDomain, pixels: Tensor, labels: Tensor, create_graph: bool
) -> Tensor:
    point = pixels.detach().requires_grad_()
    # The sum keeps an image's gradient independent of how many other images are in the batch.
    inputs = model_inputs(model, domain.from_pixels(point), pack=False)
    loss = functional.cross_entropy(model(inputs).float(), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, point, create_graph=create_graph)
    return gradient
