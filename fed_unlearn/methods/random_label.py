"""Random relabelling (Graves et al., "Amnesiac Machine Learning", AAAI 2021; Golatkar et al., CVPR 2020).

Each forget sample gets one of the other classes by lot, and the copy is trained to say so, on retained samples as well
where there are any.
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
from fed_unlearn.methods.parts.validation import require
from fed_unlearn.methods.registry import register


@register("random-label")
@dataclass(frozen=True, kw_only=True)
class RandomLabel(Descent):
    """Train on forget samples under random other labels, and on retained samples under their own.

    Minimises ``forget_weight * CE(forget, drawn labels) + CE(retain)``, each a mean over its half of the batch;
    without retained samples the first term alone, and without its weight. The labels are drawn once, uniformly among
    the classes that are neither a sample's own nor excluded: drawn anew at every step they would teach nothing but the
    uniform answer.

    Parameters
    ----------
    forget_weight : float, default 0.1
        Random labels cannot be learned, only their average; weighted fully, the attempt costs a small model more of
        what it retains than forgetting needs.
    max_gradient_norm : float, default 1.0
        Bound on the gradient, which lets one learning rate serve small and large models.
    learning_rate, momentum, batch_size, max_steps, target_accuracy, retain_tolerance, trained_layers
        As in :class:`~fed_unlearn.methods.descent.Descent`.
    """

    paper: ClassVar[str] = "Graves et al., Amnesiac Machine Learning, AAAI 2021"
    scopes: ClassVar[tuple[Scope, ...]] = ("class", "sample", "client")
    needs: ClassVar[str] = "forget (retain)"

    forget_weight: float = 0.1
    learning_rate: float = 3e-3
    max_gradient_norm: float = 1.0
    max_steps: int = 300
    target_accuracy: float = 0.03
    retain_tolerance: float = 0.005

    def __post_init__(self) -> None:
        super().__post_init__()
        require("forget_weight", self.name, self.forget_weight, float, above=0)

    def _apply(self, work: Workspace) -> Applied:
        drawn = random_allowed(work.forget.labels, work.excluded_classes, work.class_count, work.generator)

        def loss_of(batch: Batch) -> Tensor:
            loss = functional.cross_entropy(batch.forget_logits, drawn[batch.positions])
            if work.retain is None:
                return loss
            return self.forget_weight * loss + functional.cross_entropy(batch.retain_logits, batch.retain_labels)

        converged, steps = self._descend(work, loss_of, work.retain)
        return Applied(converged=converged, steps=steps, guard_labels=drawn.cpu())
