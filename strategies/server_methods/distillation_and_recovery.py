"""FedQUIT (Mora et al., "FedQUIT: On-Device Federated Unlearning via a Quasi-Competent Virtual Teacher", 2024, arXiv
2408.07587): one step of distillation at the leaving client, then ordinary rounds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from fed_unlearn import methods
from fed_unlearn.arrays import add_clipped, difference
from fed_unlearn.methods.base import Scope
from fed_unlearn.methods.parts.validation import require
from fed_unlearn.strategies.server_methods.base import ServerMethod, ServerWork
from fed_unlearn.strategies.server_methods.leaving import (
    cannot_reach,
    longest_of_leaving,
    unbounded,
    unlearn_at_leaving,
)
from fed_unlearn.strategies.server_methods.parts import averaged, train_staying
from fed_unlearn.strategies.server_methods.registry import register
from fed_unlearn.strategies.state import MethodState

_CLIENT_METHOD = "fedquit"


@register("fedquit")
@dataclass(frozen=True, kw_only=True)
class DistillationAndRecovery(ServerMethod[MethodState]):
    """The leaving client unlearns from a virtual teacher; its model is the next one, and the others train on.

    The change of the leaving client is no longer than the plan allows one that leaves (``max_request_norm``).

    Parameters
    ----------
    recovery_rounds : int, default 5
        Ordinary rounds of the staying clients, at least 1.
    epochs, learning_rate, batch_size, target_accuracy
        Of the leaving client's step: as in :class:`fed_unlearn.methods.fedquit.FedQuit`.
    """

    paper: ClassVar[str] = "Mora et al., FedQUIT, 2024"
    scopes: ClassVar[tuple[Scope, ...]] = ("client",)
    needs: ClassVar[str] = "forget, retain"

    recovery_rounds: int = 5
    epochs: int = 1
    learning_rate: float = 1e-2
    batch_size: int = 64
    target_accuracy: float = 0.1

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
        """The leaving client's step, and one ordinary round after the other."""
        if state.step > 0:
            arrays = averaged(train_staying(work, state.arrays, state.step))
            return state.followed_by(arrays, done=state.step >= self.recovery_rounds)
        unlearned = unlearn_at_leaving(work, state.arrays, state.step, _CLIENT_METHOD, self._client_parameters())
        longest = longest_of_leaving(work, unlearned)
        return state.followed_by(add_clipped(state.arrays, [difference(unlearned.arrays, state.arrays)], longest))

    def stronger(self) -> Self:
        """Twice the epochs, and twice the ordinary rounds."""
        return replace(self, epochs=2 * self.epochs, recovery_rounds=2 * self.recovery_rounds)

    def _client_parameters(self) -> dict[str, int | float]:
        return {
            "epochs": self.epochs,
            "learning_rate": self.learning_rate,
            "batch_size": self.batch_size,
            "target_accuracy": self.target_accuracy,
        }
