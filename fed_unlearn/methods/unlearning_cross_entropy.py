"""The leaving client's part of FedOSD (Pan et al., "Federated Unlearning with Gradient Descent and Conflict
Mitigation", AAAI 2025): descent on a loss that is bounded, where ascent on the cross-entropy is not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from torch import Tensor
from torch.nn import functional

from fed_unlearn.methods.base import Applied, Scope, Workspace
from fed_unlearn.methods.descent import Descent, accuracy_of
from fed_unlearn.methods.parts.batches import Batch
from fed_unlearn.methods.parts.validation import require
from fed_unlearn.methods.registry import register


@register("unlearning-cross-entropy")
@dataclass(frozen=True, kw_only=True)
class UnlearningCrossEntropy(Descent):
    """Descend the paper's unlearning cross-entropy, ``-log(1 - p / 2)`` with the probability ``p`` of the own class.

    A client's local training under that loss: the server makes the step out of it. A model that meets the aim as it is
    given stays as it is, without a step, which tells the server that there is nothing left to do.

    Parameters
    ----------
    epochs : int, default 1
        Most passes over the forget set; fewer are made once the aim is met.
    learning_rate : float, default 0.1
    momentum : float, default 0.0
    target_accuracy : float, default 0.1
        The aim: at most this share of the forget set is still predicted under its own label.
    max_gradient_norm : float, default 1.0
        Bound on the gradient, which lets one learning rate serve small and large models.
    batch_size, max_steps, retain_tolerance, trained_layers
        As in :class:`~fed_unlearn.methods.descent.Descent`.
    """

    paper: ClassVar[str] = "Pan et al., Gradient Descent and Conflict Mitigation (FedOSD), AAAI 2025"
    scopes: ClassVar[tuple[Scope, ...]] = ("client",)
    needs: ClassVar[str] = "forget"

    epochs: int = 1
    learning_rate: float = 0.1
    momentum: float = 0.0
    target_accuracy: float = 0.1
    max_gradient_norm: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require("epochs", self.name, self.epochs, int, minimum=1)

    def stronger(self) -> Self:
        """Twice the learning rate, twice the epochs and twice the bound on the steps."""
        return replace(self, learning_rate=2 * self.learning_rate, epochs=2 * self.epochs, max_steps=2 * self.max_steps)

    def _most_steps(self, work: Workspace) -> int:
        return min(self.max_steps, self.epochs * math.ceil(len(work.forget) / self.batch_size))

    def _apply(self, work: Workspace) -> Applied:
        if accuracy_of(work, work.forget, 0) <= self.target_accuracy:
            return Applied(converged=True, steps=0, guard_labels=None)

        def loss_of(batch: Batch) -> Tensor:
            return unlearning_cross_entropy(batch.forget_logits, batch.forget_labels)

        converged, steps = self._descend(work, loss_of)
        return Applied(converged=converged, steps=steps, guard_labels=None)


def unlearning_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of ``-log(1 - p / 2)`` with the probability ``p`` of each sample's own class.

    Parameters
    ----------
    logits : Tensor of shape (n, classes)
    labels : Tensor of shape (n,), int64

    Returns
    -------
    Tensor
        A scalar from 0, where no sample's class has any probability, to log 2.
    """
    own = functional.log_softmax(logits, dim=1).gather(1, labels[:, None]).squeeze(1).exp()
    return -(-own / 2).log1p().mean()
