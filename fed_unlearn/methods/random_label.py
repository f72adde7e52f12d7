"""Random relabelling (Graves et al., "Amnesiac Machine Learning", AAAI 2021; Golatkar et al., CVPR 2020).

Each forget sample gets one of the other classes at random, and the copy is trained on these labels. It is also trained
on retained samples if there are any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from fed_unlearn.methods.base import Applied, Scope, Workspace
from fed_unlearn.methods.descent import Descent
from fed_unlearn.methods.parts.batches import Batch
from fed_unlearn.methods.parts.labels import random_allowed
from fed_unlearn.methods.registry import register
from fed_unlearn.settings import AboveZero


@register("random-label")
@dataclass(frozen=True, kw_only=True)
class RandomLabel(Descent):
    """Train on forget samples under random other labels, and on retained samples under their own.

    Minimises ``forget_weight * CE(forget, drawn labels) + CE(retain)``. Each term is a mean over its samples of the
    batch. Without retained samples the loss is ``CE(forget, drawn labels)``. The labels are drawn once, uniformly among
    the classes that are neither a sample's own nor excluded. Labels drawn anew at every step would teach only the
    uniform answer.

    Parameters
    ----------
    forget_weight : float, default 0.1
        Weight of the loss on forget samples. A model cannot learn random labels, only their average. With full weight
        the attempt costs a small model more retained accuracy than forgetting needs.
    max_gradient_norm : float, default 1.0
        Longer gradients are scaled down to this norm, so that one learning rate serves small and large models.
    learning_rate, momentum, batch_size, max_steps, target_accuracy, retain_tolerance, trained_layers
        As in :class:`~fed_unlearn.methods.descent.Descent`.
    """

    paper: ClassVar[str] = "Graves et al., Amnesiac Machine Learning, AAAI 2021"
    scopes: ClassVar[tuple[Scope, ...]] = ("class", "sample", "client")
    needs: ClassVar[str] = "forget (retain)"

    forget_weight: AboveZero = 0.1
    learning_rate: float = 3e-3
    max_gradient_norm: float = 1.0
    max_steps: int = 300
    target_accuracy: float = 0.03
    retain_tolerance: float = 0.005

    def _apply(self, work: Workspace) -> Applied:
        drawn = random_allowed(work.forget.labels, work.excluded_classes, work.class_count, work.generator)

        def loss_of(batch: Batch) -> Tensor:
            loss = functional.cross_entropy(batch.forget_logits, drawn[batch.positions])
            if work.retain is None:
                return loss
            return self.forget_weight * loss + functional.cross_entropy(batch.retain_logits, batch.retain_labels)

        return Applied(*self._descend(work, loss_of, work.retain), drawn.cpu())
