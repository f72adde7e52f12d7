"""SalUn (Fan et al., "Empowering Machine Unlearning via Gradient-based Weight Saliency", ICLR 2024).

Random relabelling of the forget samples that changes only the parameters on which their loss depends most; all others
keep their exact bytes.
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
from fed_unlearn.methods.parts.trained import trained_parameters
from fed_unlearn.methods.parts.validation import require
from fed_unlearn.methods.random_label import RandomLabel
from fed_unlearn.methods.registry import register


@register("saliency")
@dataclass(frozen=True, kw_only=True)
class Saliency(RandomLabel):
    """Train the salient parameters on forget samples under random other labels, and on retained ones under their own.

    The loss is that of :class:`~fed_unlearn.methods.random_label.RandomLabel` (eq. 6 of the paper).

    Parameters
    ----------
    share : float, default 0.5
        Share of the parameters that may change, in (0, 1]; see :func:`salient_masks`. Those that the forget loss does
        not depend on at all stay as they are even at 1.
    forget_weight, learning_rate, momentum, batch_size, max_steps, target_accuracy, retain_tolerance, trained_layers
        As in :class:`~fed_unlearn.methods.random_label.RandomLabel`.
    max_gradient_norm : float
        Of the gradient of the salient parameters.
    """

    paper: ClassVar[str] = "Fan et al., Gradient-based Weight Saliency, ICLR 2024"

    share: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require("share", self.name, self.share, float, above=0, maximum=1)

    def _apply(self, work: Workspace) -> Applied:
        with trained_parameters(self.name, work.model, self.trained_layers) as parameters:
            masks = salient_masks(_forget_gradients(work, parameters), self.share)
            with _only(parameters, masks):
                return super()._apply(work)


def salient_masks(gradients: Sequence[Tensor], share: float) -> list[Tensor]:
    """Which parameters the forget loss depends on most (eq. 3 of the paper).

    One threshold serves all tensors together, so that whole layers may stay as they are.

    Parameters
    ----------
    gradients : sequence of Tensor
        Of the forget loss at the original model, one a parameter tensor.
    share : float
        In (0, 1].

    Returns
    -------
    list of Tensor, bool
        In the shapes of ``gradients``: true where the magnitude is among the largest ``share`` of all entries. Ties
        with the smallest of those are in; a zero gradient is not, whatever the share.
    """
    magnitudes = torch.cat([gradient.flatten() for gradient in gradients]).abs()
    # torch.quantile refuses more than 16 million values.
    threshold = torch.kthvalue(magnitudes, len(magnitudes) + 1 - max(1, round(share * len(magnitudes)))).values
    return [(gradient.abs() >= threshold) & (gradient != 0) for gradient in gradients]


def _forget_gradients(work: Workspace, parameters: list[nn.Parameter]) -> list[Tensor]:
    """Gradients of the summed cross-entropy of the whole forget set; the model's own are left as they were."""
    totals = [torch.zeros_like(parameter) for parameter in parameters]
    for images, labels in work.forget.batches(batch_slices(work.forget, work.forget.labels.device)):
        logits = work.model(images.contiguous(memory_format=torch.channels_last))
        loss = functional.cross_entropy(logits, labels, reduction="sum")
        for total, gradient in zip(totals, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
            if gradient is not None:
                total += gradient
        work.passes.add(forward=len(labels), backward=len(labels))
    return totals


@contextmanager
def _only(parameters: list[nn.Parameter], masks: list[Tensor]) -> Iterator[None]:
    """Gradients are zero outside the masks inside: SGD, its momentum included, then leaves those entries alone."""
    handles = [
        parameter.register_hook(lambda gradient, frozen=~mask: gradient.masked_fill(frozen, 0))
        for parameter, mask in zip(parameters, masks, strict=True)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
