"""PUF (Mora et al., "Federated Unlearning Made Practical: Seamless Integration via Negated Pseudo-Gradients", 2025,
arXiv 2504.05822): an ordinary round in which the leaving client's change counts negated, then ordinary rounds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from fed_unlearn import methods
from fed_unlearn.arrays import clipped, difference
from fed_unlearn.methods.base import Scope
from fed_unlearn.methods.parts.validation import require
from fed_unlearn.strategies.server_methods.base import ServerMethod, ServerWork
from fed_unlearn.strategies.server_methods.leaving import (
    cannot_reach,
    longest_of_leaving,
    unbounded,
    unlearn_at_leaving,
)
from fed_unlearn.strategies.server_methods.parts import averaged, changes_of, combined, doubled, moved, train_staying
from fed_unlearn.strategies.server_methods.registry import register
from fed_unlearn.strategies.state import MethodState

_CLIENT_METHOD = "negated-update"


@register("negated-update")
@dataclass(frozen=True, kw_only=True)
class NegatedUpdates(ServerMethod[MethodState]):
    """One round for both sides: the others' average change, and the leaving client's change turned round and scaled.

    ``w + mean of the others' changes - scale * the leaving client's change``, all from the same model ``w`` (the
    paper's special round). The leaving client's part is no longer than the plan allows one that leaves
    (``max_request_norm``).

    Parameters
    ----------
    recovery_rounds : int, default 5
        Ordinary rounds of the staying clients after that, at least 1.
    epochs, learning_rate, batch_size, scale
        Of the leaving client's training: as in :class:`fed_unlearn.methods.negated_update.NegatedUpdate`.
    """

    paper: ClassVar[str] = "Mora et al., Federated Unlearning Made Practical (PUF), 2025"
    scopes: ClassVar[tuple[Scope, ...]] = ("client",)
    needs: ClassVar[str] = "forget, retain"

    recovery_rounds: int = 5
    epochs: int = 2
    learning_rate: float = 0.05
    batch_size: int = 32
    scale: float = 4.0

    def __post_init__(self) -> None:
        require("recovery_rounds", self.name, self.recovery_rounds, int, minimum=1)
        methods.create(_CLIENT_METHOD, **self._client_parameters())

    def cannot_serve(self, work: ServerWork) -> str | None:
        """Without the leaving client, or without a length that bounds its change."""
        return super().cannot_serve(work) or unbounded(work) or cannot_reach(work)

    def begin(self, work: ServerWork) -> MethodState:
        """The served model."""
        return MethodState(step=0, arrays=work.served)

    def advance(self, work: ServerWork, state: MethodState) -> MethodState:
        """The round in which both sides train, and one ordinary round after the other."""
        if state.step > 0:
            arrays = averaged(train_staying(work, state.arrays, state.step))
            return state.followed_by(arrays, done=state.step >= self.recovery_rounds)
        base = state.arrays
        unlearned = unlearn_at_leaving(work, base, state.step, _CLIENT_METHOD, self._client_parameters())
        turned = doubled(difference(clipped(unlearned.arrays, base, longest_of_leaving(work, unlearned)), base))
        staying = train_staying(work, base, state.step)
        total = sum(model.weight for model in staying.values())
        changes = {**changes_of(staying, base), "": turned}
        weights = {**{client: model.weight / total for client, model in staying.items()}, "": 1.0}
        return state.followed_by(moved(base, combined(changes, weights), staying))

    def stronger(self) -> Self:
        """Twice the scale, and twice the ordinary rounds."""
        return replace(self, scale=2 * self.scale, recovery_rounds=2 * self.recovery_rounds)

    def _client_parameters(self) -> dict[str, int | float]:
        return {
            "epochs": self.epochs,
            "learning_rate": self.learning_rate,
            "batch_size": self.batch_size,
            "scale": self.scale,
        }
