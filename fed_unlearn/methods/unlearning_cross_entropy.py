"""The leaving client's part of FedOSD (Pan et al., "Federated Unlearning with Gradient Descent and Conflict
Mitigation", AAAI 2025). It descends a loss that is bounded, whereas ascent on the cross-entropy has no bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from fed_unlearn.methods.base import Applied, Scope, Workspace
from fed_unlearn.methods.descent import EpochDescent, accuracy_of
from fed_unlearn.methods.parts.batches import Batch
from fed_unlearn.methods.registry import register


@register("unlearning-cross-entropy")
@dataclass(frozen=True, kw_only=True)
class UnlearningCrossEntropy(EpochDescent):
    """Descend the paper's unlearning cross-entropy, ``-log(1 - p / 2)`` with the probability ``p`` of the own class.

    The client trains locally under that loss, and the server makes its own step from the change. If the given model
    meets the aim already, no step is taken, which tells the server that nothing is left to do.

    Parameters
    ----------
    epochs : int, default 1
        Maximum number of passes over the forget set. Fewer are made if the aim is met earlier.
    learning_rate, momentum : float, default 0.1 and 0.0
        Learning rate and momentum of SGD.
    target_accuracy : float, default 0.1
        The aim: at most this share of the forget set is still predicted under its own label.
    max_gradient_norm : float, default 1.0
        Longer gradients are scaled down to this norm, so that one learning rate serves small and large models.
    batch_size, max_steps, retain_tolerance, trained_layers
        As in :class:`~fed_unlearn.methods.descent.EpochDescent`.
    """

    paper: ClassVar[str] = "Pan et al., Gradient Descent and Conflict Mitigation (FedOSD), AAAI 2025"
    scopes: ClassVar[tuple[Scope, ...]] = ("client",)
    needs: ClassVar[str] = "forget"

    epochs: int = 1
    learning_rate: float = 0.1
    momentum: float = 0.0
    target_accuracy: float = 0.1
    max_gradient_norm: float = 1.0

    def _apply(self, work: Workspace) -> Applied:
        if accuracy_of(work, work.forget, 0) <= self.target_accuracy:
            return Applied(converged=True, steps=0)

        def loss_of(batch: Batch) -> Tensor:
            return unlearning_cross_entropy(batch.forget_logits, batch.forget_labels)

        return Applied(*self._descend(work, loss_of))


def unlearning_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of ``-log(1 - p / 2)`` with the probability ``p`` of each sample's own class.

    Parameters
    ----------
    logits : Tensor of shape (n, classes)
        Outputs of the model.
    labels : Tensor of shape (n,), int64
        Each sample's own class, as an index.

    Returns
    -------
    Tensor
        A scalar between 0, if every ``p`` is 0, and log 2, if every ``p`` is 1.
    """
    own = functional.log_softmax(logits, dim=1).gather(1, labels[:, None]).squeeze(1).exp()
    return -(-own / 2).log1p().mean()
