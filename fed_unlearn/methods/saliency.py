"""SalUn (Fan et al., "Empowering Machine Unlearning via Gradient-based Weight Saliency", ICLR 2024).

The forget samples are relabelled at random, and only the parameters on which their loss depends most are changed. All
other parameters keep their exact bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fed_unlearn.logits import batch_slices
from fed_unlearn.methods.base import Applied, Workspace
from fed_unlearn.methods.parts.batches import trained_parameters
from fed_unlearn.methods.parts.validation import PositiveShare
from fed_unlearn.methods.random_label import RandomLabel
from fed_unlearn.methods.registry import register
from fed_unlearn.model_inputs import model_inputs


@register("saliency")
@dataclass(frozen=True, kw_only=True)
class Saliency(RandomLabel):
    """Random relabelling that trains only the salient parameters.

    The loss is that of :class:`~fed_unlearn.methods.random_label.RandomLabel` (eq. 6 of the paper).

    Parameters
    ----------
    share : float, default 0.5
        Share of the parameters that may change, in (0, 1]; see :func:`salient_masks`. Parameters that the forget loss
        does not depend on never change, even at 1.
    forget_weight, learning_rate, momentum, batch_size, max_steps, target_accuracy, retain_tolerance, trained_layers
        As in :class:`~fed_unlearn.methods.random_label.RandomLabel`.
    max_gradient_norm : float
        Longer gradients of the salient parameters are scaled down to this norm.
    """

    paper: ClassVar[str] = "Fan et al., Gradient-based Weight Saliency, ICLR 2024"

    share: PositiveShare = 0.5

    def _apply(self, work: Workspace) -> Applied:
        with trained_parameters(self.name, work.model, self.trained_layers, work.forget) as parameters:
            masks = salient_masks(_forget_gradients(work, parameters), self.share)
            with _only(parameters, masks):
                return super()._apply(work)


def salient_masks(gradients: Sequence[Tensor], share: float) -> list[Tensor]:
    """Select the parameters that the forget loss depends on most (eq. 3 of the paper).

    One threshold serves all tensors, so that whole layers may stay unchanged.

    Parameters
    ----------
    gradients : sequence of Tensor
        Gradients of the forget loss at the original model, one tensor for each parameter tensor.
    share : float
        Share of the parameters to select, in (0, 1].

    Returns
    -------
    list of Tensor, bool
        Masks in the shapes of ``gradients``. An entry is true if its magnitude is among the largest ``share`` of all
        entries, or equals the smallest of those. An entry with a zero gradient is always false.
    """
    magnitudes = torch.cat([gradient.flatten() for gradient in gradients]).abs()
    # torch.quantile refuses more than 16 million values.
    threshold = torch.kthvalue(magnitudes, len(magnitudes) + 1 - max(1, round(share * len(magnitudes)))).values
    return [(gradient.abs() >= threshold) & (gradient != 0) for gradient in gradients]


def _forget_gradients(work: Workspace, parameters: list[nn.Parameter]) -> list[Tensor]:
    """Gradients of the summed cross-entropy of the whole forget set. The parameters' ``grad`` is not changed."""
    totals = [torch.zeros_like(parameter) for parameter in parameters]
    forget = work.forget.evaluated()
    for images, labels in forget.batches(batch_slices(forget, forget.labels.device)):
        logits = work.model(model_inputs(work.model, images))
        loss = functional.cross_entropy(logits, labels, reduction="sum")
        for total, gradient in zip(totals, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
            if gradient is not None:
                total += gradient
        work.passes.add(forward=len(labels), backward=len(labels))
    return totals


@contextmanager
def _only(parameters: list[nn.Parameter], masks: list[Tensor]) -> Iterator[None]:
    """Set gradients outside the masks to zero, so that SGD with momentum does not change those entries."""
    handles = [
        parameter.register_hook(lambda gradient, frozen=~mask: gradient.masked_fill(frozen, 0))
        for parameter, mask in zip(parameters, masks, strict=True)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
