"""An attempt by a method that the server runs over rounds: retraining, replaying history, ascent and recovery."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from fed_unlearn.arrays import hardly_differs
from fed_unlearn.requests import ClientScope, ForgetRequest, ParameterValue
from fed_unlearn.strategies.clients.client_models import ClientModels
from fed_unlearn.strategies.clients.rounds import client_of
from fed_unlearn.strategies.server_methods.base import MethodFailedError, ServerMethod, ServerWork
from fed_unlearn.strategies.server_methods.registry import SERVER_METHODS
from fed_unlearn.strategies.serving.attempts.attempt import Attempt
from fed_unlearn.strategies.serving.attempts.failures import (
    AttemptFailedError,
    HoldersFailedError,
    RequestRejectedError,
)
from fed_unlearn.strategies.state import MethodState, OpenAttempt
from fed_unlearn.strategies.training.trainers import fresh_trainer


class MethodUnfitError(AttemptFailedError):
    """The method cannot serve the request at all, whatever its setting; another one may."""


@dataclass
class ServerAttempt(Attempt):
    """The server unlearns step by step; a step that a crash cuts short is done again."""

    repairs_by_plan: ClassVar[bool] = False
    _has_changed: bool = field(default=False, init=False, repr=False)
    _ended: MethodState | None = field(default=None, init=False, repr=False)
    _started: float = field(default_factory=time.perf_counter, init=False, repr=False)

    def unlearn(self) -> None:
        """Take the samples out of training at their holders, and run the method to its end."""
        self._ask_holders(None)
        work, method = self._work(), self._method()
        reason = method.cannot_serve(work)
        if self.context.kind.is_private and not method.is_retraining:
            reason = "its rounds would go past the noise of the differential-privacy wrapper; 'retrain' goes through it"
        if reason is not None:
            away = tuple(request.id for request in self.requests if not self.holders.get(request.id))
            if self.order.scope == "client" and 0 < len(away) < len(self.requests):
                raise HoldersFailedError(f"{self.method_name}: {reason}", away)
            raise MethodUnfitError(f"{self.method_name}: {reason}")
        try:
            state = self._resumed(method) or method.begin(work)
            while not state.done:
                state = method.advance(work, state)
                self.context.state.save_method_state(state, self.context.grid.traffic, self._seconds())
                self.say(f"{self.method_name}: step {state.step}")
        except MethodFailedError as error:
            raise AttemptFailedError(f"{self.method_name}: {error}") from error
        self.candidate, self._ended = state.arrays, state
        self._has_changed = not hardly_differs(self.candidate, self.context.served.arrays)

    def repair(self) -> None:
        """A round by which the method itself wins back what it cost, where it has one; else one of ordinary repair."""
        try:
            state = self._method().mended(self._work(), self._ended) if self._ended is not None else None
        except MethodFailedError as error:
            raise AttemptFailedError(f"{self.method_name}: {error}") from error
        if state is None:
            super().repair()
            return
        self.repair_rounds += 1
        self.candidate, self._ended = state.arrays, state
        self.say(f"{self.method_name}: round {state.step}")

    def has_changed(self, request: ForgetRequest) -> bool:
        """Whether the method made another model of the served one, by more than rounding."""
        return self._has_changed and not hardly_differs(self.candidate, self.context.served.arrays)

    def _resumed(self, method: ServerMethod[Any]) -> MethodState | None:
        """How far the method had come before a crash; what it had cost until then counts in place of what was asked."""
        durable = self.context.state
        state, work = durable.load_method_state(method.state_class), durable.open_work()
        if state is not None and isinstance(work, OpenAttempt):
            self.context.grid.take_traffic()
            self.context.grid.traffic.add(work.traffic)
            self.seconds_before = work.seconds
        return state

    def _seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self._started

    @property
    def _method_parameters(self) -> Mapping[str, ParameterValue]:
        return self.order.parameters

    def _method(self) -> ServerMethod[Any]:
        method: ServerMethod[Any] = SERVER_METHODS.create(self.method_name, **self._method_parameters)
        return method.strengthened(self.order.stronger)

    def _work(self) -> ServerWork:
        context, (request, *others) = self.context, self.requests
        leaving = client_of(request) if isinstance(request.scope, ClientScope) else None
        return ServerWork(
            request=request,
            others=tuple(others),
            attempt=self.order.number,
            seed=context.seed,
            served=context.served.arrays,
            initial=context.state.initial(),
            experiences=context.state.trained(),
            history=context.history,
            grid=context.grid,
            timeout=context.timeout,
            trainer=fresh_trainer(context, accountant=context.state.accountant),
            train_config=context.repair_config,
            excluded_classes=self.order.excluded_classes,
            leaving=leaving,
            leaving_is_reachable=leaving is not None and all(self.holders.get(name.id) for name in self.requests),
            clip_norm=context.plan.holder_turn.max_norm or context.served.update_norm,
            request_norm=context.plan.request_bound.of_client,
        )

    def _check_answers(self, models: ClientModels) -> None:
        """Leave out that a client that is forgotten need not answer: it is never asked to train again."""
        if self.order.scope != "client":
            super()._check_answers(models)

    def _check_holders(self) -> None:
        if self.order.scope != "client":
            super()._check_holders()
        elif not self.requests:
            raise RequestRejectedError("; ".join(self.refused.values()))
        else:
            for request in self.requests:
                if client_of(request) not in self.holders.get(request.id, ()):
                    self.say(f"client {client_of(request)} is not there any more; it is forgotten without it")
