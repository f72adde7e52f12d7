"""FedQUIT (Mora et al., "FedQUIT: On-Device Federated Unlearning via a Quasi-Competent Virtual Teacher", 2024, arXiv
2408.07587): one step of distillation at the leaving client, then ordinary rounds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from fed_unlearn.arrays import Arrays, add_clipped, difference
from fed_unlearn.methods.parts.validation import BelowOne
from fed_unlearn.strategies.server_methods.base import ServerWork
from fed_unlearn.strategies.server_methods.leaving import longest_of_leaving, unlearn_at_leaving
from fed_unlearn.strategies.server_methods.parameters import BatchSize, Epochs, LearningRate
from fed_unlearn.strategies.server_methods.recovery import LeavingAndRecovery
from fed_unlearn.strategies.server_methods.registry import register


@register("fedquit")
@dataclass(frozen=True, kw_only=True)
class DistillationAndRecovery(LeavingAndRecovery):
    """The leaving client unlearns from a virtual teacher; its model is the next one, and the others train on.

    The change of the leaving client is no longer than the plan allows one that leaves (``max_request_norm``).

    Parameters
    ----------
    recovery_rounds : int, default 5
        Ordinary rounds of the staying clients, at least 1.
    epochs, learning_rate, batch_size, target_accuracy
        Parameters of the leaving client's step, as in :class:`fed_unlearn.methods.fedquit.FedQuit`.
    """

    paper: ClassVar[str] = "Mora et al., FedQUIT, 2024"
    needs: ClassVar[str] = "forget, retain"
    client_method: ClassVar[str] = "fedquit"

    epochs: Epochs = 1
    learning_rate: LearningRate = 1e-2
    batch_size: BatchSize = 64
    target_accuracy: BelowOne = 0.1

    def left(self, work: ServerWork, step: int) -> Arrays:
        """The leaving client's model, bounded."""
        unlearned = unlearn_at_leaving(work, work.served, step, self.client_method, self.client_parameters)
        longest = longest_of_leaving(work, unlearned)
        return add_clipped(work.served, [difference(unlearned.arrays, work.served)], longest)

    def stronger(self) -> Self:
        """Twice the epochs, and twice the ordinary rounds."""
        return replace(self, epochs=2 * self.epochs, recovery_rounds=2 * self.recovery_rounds)
