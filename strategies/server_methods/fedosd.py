"""FedOSD (Pan et al., "Federated Unlearning with Gradient Descent and Conflict Mitigation", AAAI 2025)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from fed_unlearn import methods
from fed_unlearn.arrays import Arrays, difference, norm
from fed_unlearn.methods.base import Scope
from fed_unlearn.methods.parts.validation import BelowOne
from fed_unlearn.settings import Fraction
from fed_unlearn.strategies.server_methods.base import ServerMethod, ServerWork
from fed_unlearn.strategies.server_methods.leaving import cannot_reach, unlearn_at_leaving
from fed_unlearn.strategies.server_methods.parameters import BatchSize, Epochs, LearningRate, Rounds
from fed_unlearn.strategies.server_methods.parts import (
    ClientModel,
    changes_of,
    combined,
    doubled,
    inner_product,
    moved,
    scaled,
    train_staying,
)
from fed_unlearn.strategies.server_methods.registry import register
from fed_unlearn.strategies.state import MethodState

logger = logging.getLogger("fed_unlearn.strategies")

_CLIENT_METHOD = "unlearning-cross-entropy"
_ROUNDING = 1e-6  # a smaller share is what arithmetic leaves, and no direction


@dataclass(frozen=True, kw_only=True)
class FedOSDState(MethodState):
    """The unlearning and the recovery rounds so far.

    Attributes
    ----------
    unlearned, recovered : int
        Number of unlearning rounds, and of recovery rounds.
    recovers : bool
        Whether unlearning is over.
    moved : float
        Sum of the lengths of the leaving client's steps.
    """

    unlearned: int = 0
    recovered: int = 0
    recovers: bool = False
    moved: float = 0.0


@register("fedosd")
@dataclass(frozen=True, kw_only=True)
class FedOSD(ServerMethod[FedOSDState]):
    """Unlearn at right angles to what the others learn, then recover without moving back.

    Gradients are those of a round: what a client's local training changes, with the sign turned. In an unlearning
    round the leaving client trains on the unlearning cross-entropy and the others as usual, from the same model. The
    step is the leaving client's change projected onto what is orthogonal to every other change (orthogonal steepest
    descent), as long as the change was before, but no longer than the median of the others: the leaving client
    must not move the model further than another one could. In a recovery round, each client's change loses its part
    towards the model that was served, where it has one.

    The paper unlearns for a number of rounds that its users choose. Here the phase also ends when the leaving client's
    samples are no longer recognised, and when most of its change is along what the others learn: what is then left is
    what they know too, and a model that had never seen the client would know it. It ends too when the steps have come
    to the bound of the plan (``max_request_norm``): recovery does not undo what a client that lies has planted in them.

    Parameters
    ----------
    unlearn_rounds : int, default 10
        Maximum number of unlearning rounds, at least 1.
    recovery_rounds : int, default 5
        Number of recovery rounds, at least 1.
    orthogonal_share : float, default 0.6
        Minimum share of the length of the leaving client's change that is orthogonal to the others' changes, in [0, 1].
        Unlearning ends before a step with a smaller share, the first one excepted. 0 means no such bound.
    epochs, learning_rate, batch_size, target_accuracy
        Parameters of the leaving client's training, as in
        :class:`fed_unlearn.methods.unlearning_cross_entropy.UnlearningCrossEntropy`.
    """

    paper: ClassVar[str] = "Pan et al., FedOSD, AAAI 2025"
    scopes: ClassVar[tuple[Scope, ...]] = ("client",)
    needs: ClassVar[str] = "forget, retain"
    state_class: ClassVar[type[MethodState]] = FedOSDState

    unlearn_rounds: Rounds = 10
    recovery_rounds: Rounds = 5
    orthogonal_share: Fraction = 0.6
    epochs: Epochs = 1
    learning_rate: LearningRate = 0.1
    batch_size: BatchSize = 64
    target_accuracy: BelowOne = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        methods.create(_CLIENT_METHOD, **self._client_parameters())

    def cannot_serve(self, work: ServerWork) -> str | None:
        """Without the leaving client."""
        return super().cannot_serve(work) or cannot_reach(work)

    def begin(self, work: ServerWork) -> FedOSDState:
        """The served model."""
        return FedOSDState(step=0, arrays=work.served)

    def advance(self, work: ServerWork, state: FedOSDState) -> FedOSDState:
        """An unlearning round, or a recovery round once unlearning is over."""
        if state.recovers:
            return self._recovered(work, state, train_staying(work, state.arrays, state.step))
        leaving = unlearn_at_leaving(work, state.arrays, state.step, _CLIENT_METHOD, self._client_parameters())
        staying = train_staying(work, state.arrays, state.step)
        wanted = doubled(difference(leaving.arrays, state.arrays))
        changes = list(changes_of(staying, state.arrays).values())
        step = orthogonal_part(wanted, changes)
        share = norm(step) / norm(wanted) if norm(wanted) else 0.0
        least = max(self.orthogonal_share if state.unlearned else 0.0, _ROUNDING)
        if leaving.steps == 0 or share < least:
            return self._recovered(work, state, staying)
        usual = float(np.median([norm(change) for change in changes]))
        length = min(norm(wanted), usual)
        left = self._left(work, state, usual)
        if length > left:
            logger.warning(
                "client %s: its steps come to %.3g and may not become longer; unlearning ends, and max_request_norm"
                " (max-request-norm in [unlearning] of a scenario) allows more",
                work.leaving,
                state.moved + left,
            )
            length = left
        if length <= _ROUNDING * usual:
            return self._recovered(work, state, staying)
        arrays = moved(state.arrays, scaled(step, length / norm(step)), staying)
        unlearned = state.unlearned + 1
        recovers = unlearned >= self.unlearn_rounds or length == left
        return state.followed_by(arrays, unlearned=unlearned, recovers=recovers, moved=state.moved + length)

    def stronger(self) -> Self:
        """Twice the rounds of both kinds, and an end half as soon."""
        return replace(
            self,
            unlearn_rounds=2 * self.unlearn_rounds,
            recovery_rounds=2 * self.recovery_rounds,
            orthogonal_share=self.orthogonal_share / 2,
        )

    def _recovered(self, work: ServerWork, state: FedOSDState, staying: Mapping[str, ClientModel]) -> FedOSDState:
        away = doubled(difference(state.arrays, work.served))
        changes = {client: without_return(change, away) for client, change in changes_of(staying, state.arrays).items()}
        total = sum(model.weight for model in staying.values())
        step = combined(changes, {client: model.weight / total for client, model in staying.items()})
        recovered = state.recovered + 1
        return state.followed_by(
            moved(state.arrays, step, staying),
            done=recovered >= self.recovery_rounds,
            recovered=recovered,
            recovers=True,
        )

    @staticmethod
    def _left(work: ServerWork, state: FedOSDState, usual: float) -> float:
        """How long the leaving client's steps may still be together."""
        if work.request_norm is None:
            return float("inf")
        return max(0.0, work.request_norm * (work.clip_norm or usual) - state.moved)

    def _client_parameters(self) -> dict[str, int | float]:
        return {
            "epochs": self.epochs,
            "learning_rate": self.learning_rate,
            "batch_size": self.batch_size,
            "target_accuracy": self.target_accuracy,
        }


def orthogonal_part(change: Arrays, others: Sequence[Arrays]) -> Arrays:
    """A change without its projection onto the space that other changes span.

    Parameters
    ----------
    change : dict of ndarray, float64
    others : sequence of dict of ndarray, float64
        Any number; they may depend on each other linearly.
    """
    left = change
    lengths = [norm(other) for other in others]
    units = [scaled(other, 1 / length) for other, length in zip(others, lengths, strict=True) if length]
    if not units:
        return left
    inverse = np.linalg.pinv(
        np.array([[inner_product(one, other) for other in units] for one in units]), hermitian=True
    )
    for _ in range(2):  # the second pass takes away what rounding left of the first
        along = inverse @ np.array([inner_product(unit, left) for unit in units])
        span = combined(dict(enumerate(units)), dict(enumerate(along)))
        left = {name: value - span[name] for name, value in left.items()}
    return left


def without_return(change: Arrays, away: Arrays) -> Arrays:
    """A change without its part against ``away``, where it has one: it does not undo what led away.

    Parameters
    ----------
    change, away : dict of ndarray, float64
    """
    back = inner_product(change, away)
    if back >= 0:
        return change
    share = back / inner_product(away, away)
    return {name: value - share * away[name] for name, value in change.items()}
