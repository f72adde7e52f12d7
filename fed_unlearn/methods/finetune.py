"""Fine-tuning on the retained samples alone (a baseline since Golatkar et al., "Eternal Sunshine", CVPR 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.methods.base import Applied, Scope, Workspace
from fed_unlearn.methods.descent import EpochDescent
from fed_unlearn.methods.parts.batches import Batch
from fed_unlearn.methods.registry import register


@register("finetune")
@dataclass(frozen=True, kw_only=True)
class Finetune(EpochDescent):
    """Train on retained samples only. This is the baseline that other methods are compared with.

    Minimises ``CE(retain)``. Nothing pulls a forget sample away from its label, so the method mostly misses its aim,
    and ``converged`` of the outcome is then False.

    Parameters
    ----------
    epochs : int, default 5
        Maximum number of passes over the retained samples. Fewer are made if the aim is met earlier.
    learning_rate : float, default 0.01
        Learning rate of SGD.
    momentum, batch_size, max_steps, target_accuracy, retain_tolerance, max_gradient_norm, trained_layers
        As in :class:`~fed_unlearn.methods.descent.EpochDescent`.
    """

    paper: ClassVar[str] = "Golatkar et al., Eternal Sunshine of the Spotless Net, CVPR 2020"
    scopes: ClassVar[tuple[Scope, ...]] = ("class", "sample", "client")
    needs: ClassVar[str] = "retain"
    requires_retain: ClassVar[bool] = True

    epochs: int = 5
    learning_rate: float = 1e-2
    max_gradient_norm: float = 1.0

    def _reads(self, step: int) -> tuple[bool, bool]:
        return False, True

    def _epoch(self, work: Workspace) -> SampleSet:
        return work.retained

    def _apply(self, work: Workspace) -> Applied:
        def loss_of(batch: Batch) -> Tensor:
            return functional.cross_entropy(batch.retain_logits, batch.retain_labels)

        return Applied(*self._descend(work, loss_of, work.retained))
