"""FedEraser (Liu et al., "FedEraser: Enabling Efficient Client-Level Data Removal from Federated Learning Models",
IWQoS 2021): the stored rounds once more, without the leaving client.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from fed_unlearn.arrays import Arrays, difference, norm
from fed_unlearn.methods.base import Scope
from fed_unlearn.strategies.server_methods.base import ServerMethod, ServerWork
from fed_unlearn.strategies.server_methods.parameters import RoundsFromZero
from fed_unlearn.strategies.server_methods.parts import (
    averaged,
    changes_of,
    combined,
    moved,
    stored_round,
    train_staying,
)
from fed_unlearn.strategies.server_methods.registry import register
from fed_unlearn.strategies.state import MethodState

logger = logging.getLogger("fed_unlearn.strategies")


@dataclass(frozen=True, kw_only=True)
class FedEraserState(MethodState):
    """The stored rounds that are replayed so far.

    Attributes
    ----------
    rounds : tuple of int
        Numbers of the stored rounds, in order.
    """

    rounds: tuple[int, ...] = ()


@register("federaser")
@dataclass(frozen=True, kw_only=True)
class FedEraser(ServerMethod[FedEraserState]):
    """Replay the stored rounds: directions from fresh training of those that stay, lengths from what was stored.

    For every stored round its clients, without the one that leaves, train from the unlearned model so far (calibration
    training, in the configuration of repair: few epochs will do). Client k's change is ``|U_k| * C_k / |C_k|`` with
    its stored change ``U_k`` and its fresh one ``C_k`` (update calibrating), lengths over all trainable arrays; the
    model moves by their average, weighted by samples. Statistics and counters are averages of the fresh models. The
    paper takes the first round's stored changes as they are; here they are calibrated too, so that samples that have
    come into quarantine since take no part.

    Parameters
    ----------
    recovery_rounds : int, default 5
        Ordinary rounds of the staying clients after the replay, at least 0. Where only some rounds are stored (the
        paper's retaining interval), the replay alone stops short of where the training ended.
    """

    paper: ClassVar[str] = "Liu et al., FedEraser, IWQoS 2021"
    scopes: ClassVar[tuple[Scope, ...]] = ("client",)
    needs: ClassVar[str] = "history, retain, the first model"
    state_class: ClassVar[type[MethodState]] = FedEraserState

    recovery_rounds: RoundsFromZero = 5

    def cannot_serve(self, work: ServerWork) -> str | None:
        """Without the first model, or a history that begins with the first round."""
        if work.initial is None:
            return "the model was trained elsewhere, so there is no training to replay"
        if work.history is None:
            return "no history is kept, so there is no training to replay"
        stored = work.history.rounds()
        if not stored or stored[0] != 1:
            return "the history does not begin with the first round, which was purged or too large"
        return super().cannot_serve(work)

    def begin(self, work: ServerWork) -> FedEraserState:
        """The model that the first experience started from."""
        rounds = work.history.rounds() if work.history is not None else ()
        return FedEraserState(step=0, arrays=self._initial(work), rounds=rounds)

    def advance(self, work: ServerWork, state: FedEraserState) -> FedEraserState:
        """The next stored round, or an ordinary one after the last of them."""
        rounds = state.rounds
        if state.step < len(rounds):
            arrays = self._replayed(work, state, rounds[state.step])
        else:
            arrays = averaged(train_staying(work, state.arrays, state.step))
        return state.followed_by(arrays, done=state.step + 1 >= len(rounds) + self.recovery_rounds)

    def stronger(self) -> Self:
        """Twice the ordinary rounds, and two more: the replay itself holds nothing of the leaving client."""
        return replace(self, recovery_rounds=2 * self.recovery_rounds + 2)

    def _replayed(self, work: ServerWork, state: FedEraserState, number: int) -> Arrays:
        stored = stored_round(work, number)
        staying = set(work.grid.roster.staying.values())
        lengths = {
            client: norm(difference(arrays, stored.base))
            for client, (arrays, _) in stored.clients.items()
            if client in staying and client != work.leaving
        }
        if not lengths:
            logger.warning("federaser: no client of round %d is left to replay it; it is passed over", number)
            return state.arrays
        fresh = train_staying(work, state.arrays, state.step, lengths)
        changes = changes_of(fresh, state.arrays)
        total = sum(model.weight for model in fresh.values())
        scales = {
            client: model.weight / total * lengths[client] / (norm(changes[client]) or 1.0)
            for client, model in fresh.items()
        }
        return moved(state.arrays, combined(changes, scales), fresh)
