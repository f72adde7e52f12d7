"""The leaving client's part of PUF (Mora et al., "Federated Unlearning Made Practical: Seamless Integration via Negated
Pseudo-Gradients", 2025, arXiv 2504.05822). It trains as usual, and goes the other way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional

from fed_unlearn.methods.base import Applied, Scope, Workspace
from fed_unlearn.methods.descent import EpochDescent, accuracy_of
from fed_unlearn.methods.parts.batches import Batch
from fed_unlearn.methods.registry import register
from fed_unlearn.settings import AboveZero


@register("negated-update")
@dataclass(frozen=True, kw_only=True)
class NegatedUpdate(EpochDescent):
    """Train on the forget set, and take ``scale`` times that change from the given model.

    The result is ``w - scale * (trained(w) - w)``. The change of one ordinary training is bounded, whereas ascent on
    the loss has no bound.

    Parameters
    ----------
    epochs : int, default 2
        Passes over the forget set.
    learning_rate, momentum : float, default 0.05 and 0.9
        Learning rate and momentum of SGD.
    batch_size : int, default 32
        Samples in one step.
    scale : float, default 4.0
        How far the model goes the other way, as a multiple of the change (the paper's unlearning rate).
    target_accuracy : float, default 0.1
        The aim: at most this share of the forget set is still predicted under its own label. Training does not stop for
        it.
    max_steps, retain_tolerance, max_gradient_norm, trained_layers
        As in :class:`~fed_unlearn.methods.descent.EpochDescent`.
    """

    paper: ClassVar[str] = "Mora et al., Federated Unlearning Made Practical (PUF), 2025"
    scopes: ClassVar[tuple[Scope, ...]] = ("client",)
    needs: ClassVar[str] = "forget"

    epochs: int = 2
    learning_rate: float = 0.05
    momentum: float = 0.9
    batch_size: int = 32
    scale: AboveZero = 4.0
    target_accuracy: float = 0.1

    def stronger(self) -> Self:
        """Twice the scale."""
        return replace(self, scale=2 * self.scale)

    def _apply(self, work: Workspace) -> Applied:
        def loss_of(batch: Batch) -> Tensor:
            return functional.cross_entropy(batch.forget_logits, batch.forget_labels)

        _, steps = replace(self, target_accuracy=0.0)._descend(work, loss_of)
        with torch.no_grad():
            for trained, given in zip(work.model.parameters(), work.original.parameters(), strict=True):
                trained.copy_(given - self.scale * (trained - given))
        return Applied(accuracy_of(work, work.forget, steps) <= self.target_accuracy, steps)
