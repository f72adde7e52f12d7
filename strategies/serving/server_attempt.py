"""An attempt by a method that the server runs over rounds: retraining, replaying history, ascent and recovery."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from fed_unlearn.strategies import server_methods
from fed_unlearn.strategies.clients.rounds import LocalModels, client_of
from fed_unlearn.strategies.server_methods import MethodFailedError, MethodState, ServerWork
from fed_unlearn.strategies.serving.attempt import Attempt, AttemptFailedError, RequestRejectedError


class MethodUnfitError(AttemptFailedError):
    """A method that cannot serve the request at all, whatever its setting; another one may."""


@dataclass
class ServerAttempt(Attempt):
    """The server unlearns, step by step; each step can be repeated after a crash.

    Attributes
    ----------
    new_work : callable
        Makes what the method works with, told whether a leaving client can be reached.
    state : MethodState or None
        Where an earlier process got to.
    on_state : callable
        Told of every state, to write it down.
    """

    repairs_by_plan: ClassVar[bool] = False

    new_work: Callable[[bool], ServerWork] = field(kw_only=True)
    on_state: Callable[[MethodState], None] = field(kw_only=True)
    state: MethodState | None = field(kw_only=True, default=None)

    def unlearn(self) -> None:
        """Take the samples out of training at their holders, and run the method to its end."""
        self._quarantine()
        work = self.new_work(bool(self._leaving_holders()))
        method = server_methods.create(self.order.method, **self.order.parameters)
        for _ in range(self.order.stronger):
            method = method.stronger()
        reason = method.cannot_serve(work)
        if self.rounds.is_private and not method.is_retraining:
            reason = "its rounds would go past the noise of the differential-privacy wrapper; 'retrain' goes through it"
        if reason is not None:
            raise MethodUnfitError(f"{self.order.method}: {reason}")
        try:
            state = self.state if self.state is not None else method.begin(work)
            while not state.done:
                state = method.advance(work, state)
                self.on_state(state)
                self.on_step(f"{self.order.method}: step {state.step}")
        except MethodFailedError as error:
            raise AttemptFailedError(f"{self.order.method}: {error}") from error
        self.candidate = state.arrays

    def _quarantine(self) -> None:
        self._ask_holders(None)

    def _leaving_holders(self) -> set[str]:
        return set().union(*self.holders.values()) if self.order.scope == "client" else set()

    def _check_answers(self, local: LocalModels) -> None:
        """A client that is forgotten need not answer: it is never asked to train again."""
        if self.order.scope != "client":
            super()._check_answers(local)

    def _check_holders(self) -> None:
        if self.order.scope != "client":
            super()._check_holders()
        elif not self.requests:
            raise RequestRejectedError("; ".join(self.refused.values()))
        else:
            for request in self.requests:
                if client_of(request) in self.holders.get(request.id, ()):
                    continue
                self.on_step(f"client {client_of(request)} is not there any more; it is forgotten without it")
