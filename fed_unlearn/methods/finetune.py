"""Fine-tuning on the retained samples alone (a baseline since Golatkar et al., "Eternal Sunshine", CVPR 2020)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from torch import Tensor
from torch.nn import functional

from fed_unlearn.methods.base import Applied, Scope, Workspace
from fed_unlearn.methods.descent import Descent
from fed_unlearn.methods.parts.batches import Batch
from fed_unlearn.methods.parts.validation import require
from fed_unlearn.methods.registry import register


@register("finetune")
@dataclass(frozen=True, kw_only=True)
class Finetune(Descent):
    """Train on retained samples and hope that the others wear off, which they seldom do.

    Minimises ``CE(retain)``. Nothing pulls a forget sample away from its label, so the aim is mostly missed and
    ``converged`` of the outcome is False: the baseline that other methods are held against.

    Parameters
    ----------
    epochs : int, default 5
        Most passes over the retained samples; fewer are made once the aim is met.
    learning_rate : float, default 0.01
    momentum, batch_size, max_steps, target_accuracy, retain_tolerance, max_gradient_norm, trained_layers
        As in :class:`~fed_unlearn.methods.descent.Descent`.
    """

    paper: ClassVar[str] = "Golatkar et al., Eternal Sunshine of the Spotless Net, CVPR 2020"
    scopes: ClassVar[tuple[Scope, ...]] = ("class", "sample", "client")
    needs: ClassVar[str] = "retain"
    requires_retain: ClassVar[bool] = True

    epochs: int = 5
    learning_rate: float = 1e-2
    max_gradient_norm: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require("epochs", self.name, self.epochs, int, minimum=1)

    def stronger(self) -> Self:
        """Twice the learning rate, twice the epochs and twice the bound on the steps."""
        return replace(self, learning_rate=2 * self.learning_rate, epochs=2 * self.epochs, max_steps=2 * self.max_steps)

    def _reads(self, step: int) -> tuple[bool, bool]:
        return False, True

    def _most_steps(self, work: Workspace) -> int:
        return min(self.max_steps, self.epochs * math.ceil(len(work.retained) / self.batch_size))

    def _apply(self, work: Workspace) -> Applied:
        def loss_of(batch: Batch) -> Tensor:
            return functional.cross_entropy(batch.retain_logits, batch.retain_labels)

        converged, steps = self._descend(work, loss_of, work.retained)
        return Applied(converged=converged, steps=steps, guard_labels=None)
