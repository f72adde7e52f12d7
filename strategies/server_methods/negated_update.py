"""PUF (Mora et al., "Federated Unlearning Made Practical: Seamless Integration via Negated Pseudo-Gradients", 2025,
arXiv 2504.05822): an ordinary round in which the leaving client's change counts negated, then ordinary rounds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from fed_unlearn.arrays import Arrays, clipped, difference
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.server_methods.base import ServerWork
from fed_unlearn.strategies.server_methods.leaving import longest_of_leaving, unlearn_at_leaving
from fed_unlearn.strategies.server_methods.parameters import BatchSize, Epochs, Factor, LearningRate
from fed_unlearn.strategies.server_methods.parts import changes_of, combined, doubled, moved, train_staying
from fed_unlearn.strategies.server_methods.recovery import LeavingAndRecovery
from fed_unlearn.strategies.server_methods.registry import register


@register("negated-update")
@dataclass(frozen=True, kw_only=True)
class NegatedUpdates(LeavingAndRecovery):
    """One round for both sides: the others' average change, and the leaving client's change turned round and scaled.

    ``w + mean of the others' changes - scale * the leaving client's change``, all from the same model ``w`` (the
    paper's special round). The leaving client's part is no longer than the plan allows one that leaves
    (``max_request_norm``). Where several clients leave, one round takes all their parts.

    Parameters
    ----------
    recovery_rounds : int, default 5
        Ordinary rounds of the staying clients after that, at least 1.
    epochs, learning_rate, batch_size, scale
        Parameters of the leaving client's training, as in :class:`fed_unlearn.methods.negated_update.NegatedUpdate`.
    """

    paper: ClassVar[str] = "Mora et al., Federated Unlearning Made Practical (PUF), 2025"
    needs: ClassVar[str] = "forget, retain"
    shares_rounds: ClassVar[bool] = True
    client_method: ClassVar[str] = "negated-update"

    epochs: Epochs = 2
    learning_rate: LearningRate = 0.05
    batch_size: BatchSize = 32
    scale: Factor = 4.0

    def left(self, work: ServerWork, step: int) -> Arrays:
        """The round in which both sides train."""
        base = work.served
        turned = [self._turned(work, base, step, request) for request in work.requests]
        staying = train_staying(work, base, step)
        total = sum(model.weight for model in staying.values())
        change = combined(changes_of(staying, base), {client: each.weight / total for client, each in staying.items()})
        parts = dict(enumerate([change, *turned]))
        return moved(base, combined(parts, dict.fromkeys(parts, 1.0)), staying)

    def _turned(self, work: ServerWork, base: Arrays, step: int, request: ForgetRequest) -> Arrays:
        """What one leaving client's turned change adds to the model."""
        unlearned = unlearn_at_leaving(work, base, step, self.client_method, self.client_parameters, request)
        longest = longest_of_leaving(work, unlearned, getattr(request.scope, "client", None))
        return doubled(difference(clipped(unlearned.arrays, base, longest), base))

    def stronger(self) -> Self:
        """Twice the scale, and twice the ordinary rounds."""
        return replace(self, scale=2 * self.scale, recovery_rounds=2 * self.recovery_rounds)
