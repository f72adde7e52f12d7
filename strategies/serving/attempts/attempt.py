"""One attempt at requests that are served together: what holders and repair rounds make of the served model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from statistics import median
from typing import ClassVar

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, hardly_differs
from fed_unlearn.gate import Decision, Evidence, Verdict
from fed_unlearn.requests import ForgetRequest, ParameterValue
from fed_unlearn.strategies.clients.client_models import ClientModels, norms_of
from fed_unlearn.strategies.clients.messages.exchange import told_by_clients
from fed_unlearn.strategies.clients.rounds import Rounds, client_of
from fed_unlearn.strategies.context import CallContext
from fed_unlearn.strategies.inner.aggregation import AggregationFailedError
from fed_unlearn.strategies.outcomes import RequestProgress
from fed_unlearn.strategies.serving.attempts.failures import (
    AttemptFailedError,
    HoldersAwayError,
    HoldersFailedError,
    RequestRejectedError,
)
from fed_unlearn.strategies.serving.attempts.order import Order


@dataclass
class Attempt(ABC):
    """One attempt; ``candidate`` is its model so far.

    Attributes
    ----------
    context : CallContext
        What the call works with.
    order : Order
        What is tried.
    requests : tuple of ForgetRequest
        Requests that are still tried; some may turn out not to be served as they were put.
    candidate : dict of ndarray
        The model so far; at first the served one.
    step, repair_rounds : int
        Number of the holders' turns, and of repair rounds, so far.
    holders : dict of str to set of str
        Clients that hold samples of a request, by request.
    refused : dict of str to str
        Why a request cannot be served as it was put, by request.
    away : dict of str to str
        Clients that did not answer, and so may hold samples of a class request. They are in no round until they have
        heard of it, or it has ended.
    changed_by : set of str
        Clients whose steps of the method have changed an array of the model, repair aside.
    before : dict of str to Evidence
        What the served model shows of a request's samples, by request.
    unrepaired : str
        Why no client could do the last repair round; empty where one could.
    reference : dict of ndarray or None
        A model that never saw the samples, for methods of holders that measure by one.
    seconds_before : float
        Wall time of what an earlier process did of the attempt, and is not repeated.
    """

    repairs_by_plan: ClassVar[bool] = True
    """Whether the planned repair rounds follow before the gate looks; some methods repair by themselves."""

    context: CallContext
    order: Order
    requests: tuple[ForgetRequest, ...] = field(init=False)
    candidate: Arrays = field(init=False)
    step: int = field(default=0, init=False)
    repair_rounds: int = field(default=0, init=False)
    holders: dict[str, set[str]] = field(default_factory=dict, init=False)
    refused: dict[str, str] = field(default_factory=dict, init=False)
    away: dict[str, str] = field(default_factory=dict, init=False)
    changed_by: set[str] = field(default_factory=set, init=False)
    before: dict[str, Evidence] = field(default_factory=dict, init=False)
    unrepaired: str = field(default="", init=False)
    reference: Arrays | None = field(default=None, init=False)
    seconds_before: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.requests, self.candidate = self.order.requests, self.context.served.arrays
        self.rounds = Rounds(self.context)

    @abstractmethod
    def unlearn(self) -> None:
        """Take the forget samples out of the candidate.

        Raises
        ------
        RequestRejectedError
            If no client holds a sample of any request, or none can be served as it was put.
        AttemptFailedError
            If it could not be done: what some client holds would stay in the model.
        HoldersAwayError
            If holders did not answer, and nothing can be done without them.
        """

    def repair(self) -> None:
        """One repair round, guarded at the holders."""
        self.repair_rounds += 1
        asked = {request.id: request for request in self.order.requests}
        guarded = tuple(
            protocol.RequestAttempt.numbered(asked[request_id], self.order.number) for request_id in self.holders
        )
        models = self.rounds.repair(self.candidate, guarded)
        self.unrepaired = "" if models.models or not models.failed else told_by_clients(models.failed)
        self.candidate = self._aggregated(self.candidate, models, "repair", self.context.served.repair_rounds)
        self.say(f"repair round {self.repair_rounds}")
        self._after_repair()

    def _after_repair(self) -> None:  # noqa: B027
        """Do what follows every repair round; nothing for most methods."""

    def explained(
        self, decisions: Mapping[str, Decision], progress: Mapping[str, RequestProgress]
    ) -> Mapping[str, Decision]:
        """The gate's decisions, with what else can be why requests are not accepted: that no client could repair."""
        told = f"no client could repair the model: {self.unrepaired}" if self.unrepaired else ""
        return {
            name: replace(decision, reasons=(*decision.reasons, told))
            if told and decision.verdict is not Verdict.ACCEPT
            else decision
            for name, decision in decisions.items()
        }

    def moved_by_clients(self) -> dict[str, float]:
        """How far the holders of sample requests moved the model, as multiples of the clip norm."""
        return {}

    @property
    def method_name(self) -> str:
        """Name of the method that is run."""
        return self.order.method

    def has_changed(self, request: ForgetRequest) -> bool:
        """Whether a step of the method at a holder of a request has changed the model, and not repair alone.

        For a class or a client the candidate must differ from the served model too. Rounding is no change.
        """
        if request.scope.kind != "sample" and hardly_differs(self.candidate, self.context.served.arrays):
            return False
        return bool(self.changed_by & self.holders.get(request.id, set()))

    def say(self, text: str) -> None:
        """Say what was done, under the first of the requests."""
        self.context.tell("request-step", text, self.order.requests[0])

    def check_audited(self, answered: Collection[str], failed: Mapping[str, str], silent: Mapping[str, str]) -> None:
        """Refuse an audit in which no holder of a request says how well its samples are forgotten.

        Raises
        ------
        HoldersAwayError
            If some of the holders did not answer.
        HoldersFailedError
            If all of them answered, and not as they should.
        """
        if self.order.scope == "client":
            return
        unread = {
            request.id: holders
            for request in self.requests
            if (holders := self.holders.get(request.id, set())) and not holders & set(answered)
        }
        unheard = set().union(*unread.values())
        away = {client: reason for client, reason in silent.items() if client in unheard}
        if away:
            waiting = tuple(name for name, holders in unread.items() if holders & set(away))
            raise HoldersAwayError("; ".join(away.values()), waiting)
        if unread:
            reason = "; ".join(reason for client, reason in failed.items() if client in unheard)
            raise HoldersFailedError(reason, tuple(unread))

    def max_update_norm(self) -> float:
        """The bound on a holder's change; one repair round tells it where nothing was trained here yet."""
        served = self.context.served
        bound = self.context.plan.holder_turn.max_norm or served.update_norm
        if bound is None:
            # Holders may know of the request from before a crash: in both cases they train without its samples.
            self._ask_holders(None)
            self.step -= 1
            models = self.rounds.repair(served.arrays, ())
            self._aggregated(served.arrays, models, "repair", served.repair_rounds)
            norms = norms_of(models, served.arrays)
            if not norms:
                raise AttemptFailedError("no client trained, so nothing bounds the holder's change")
            bound = served.update_norm = median(norms)
        return bound

    def _ask_holders(
        self, method: str | None, clients: Collection[str] | None = None, *, only_if_recognised: bool = False
    ) -> ClientModels:
        """One turn of the holders; with no method they only take the samples out of training."""
        instruction = protocol.UnlearnInstruction(
            targets=(),
            step=self.step,
            method=method,
            parameters=self._parameters(),
            stronger=self.order.stronger,
            excluded_classes=self.order.excluded_classes,
            only_if_recognised=only_if_recognised,
            seed=self.context.seed,
            arrived=self.context.arrived,
        )
        reference = self.reference if method is not None else None
        models = self.rounds.unlearn(
            self.requests, self.candidate, instruction, self.order.number, clients, reference=reference
        )
        self.step += 1
        if self.order.number == 1 and self.step == 1:
            self._refuse(models.refused)
        elif models.refused:  # what was served before cannot be impossible: some client says what is not so
            raise HoldersFailedError("; ".join(models.refused.values()), tuple(models.refused))
        for request_id, counts in models.counts.items():
            self.holders.setdefault(request_id, set()).update(counts)
        self._check_answers(models)
        if clients is None:
            self._check_holders()
        return models

    def _parameters(self) -> dict[str, ParameterValue]:
        """The method's hyper-parameters, as they are sent to holders."""
        return dict(self.order.parameters)

    def _refuse(self, reasons: Mapping[str, str]) -> None:
        self.refused.update(reasons)
        self.requests = tuple(request for request in self.requests if request.id not in self.refused)

    def _check_answers(self, models: ClientModels) -> None:
        failed = {client: reason for client, reason in models.failed.items() if self._may_hold(client)}
        if failed:
            named = tuple(request.id for request in self.requests if client_of(request) in (None, *failed))
            raise HoldersFailedError("; ".join(failed.values()), named)
        if not models.silent:
            return
        named = tuple(request.id for request in self.requests if client_of(request) in models.silent)
        if named and self.order.scope == "sample":
            raise HoldersAwayError("; ".join(models.silent.values()), named)
        away = {client: reason for client, reason in models.silent.items() if self._may_hold(client)}
        if set(away) & set().union(*self.holders.values()):
            raise AttemptFailedError("; ".join(away.values()))
        self.away.update(away)
        for client in away:
            self.context.grid.bar(client, "it has not taken the samples that are to be forgotten out of its training")

    def _may_hold(self, client: str) -> bool:
        """Whether a client that fails may hold a sample: it has said of which classes it has any."""
        counts = self.context.grid.roster.class_samples.get(client)
        classes = [item for request in self.requests for item in getattr(request.scope, "classes", ())]
        return counts is None or not classes or any(counts[item] for item in classes)

    def _check_holders(self) -> None:
        without = [request for request in self.requests if not self.holders.get(request.id)]
        grid = self.context.grid
        away = set(self.away) | grid.roster.known - grid.roster.leaving - grid.connected()
        if without and away and self.order.scope == "class":
            reason = f"{self._nobody_holds(without[0])}; clients {', '.join(sorted(away))} may"
            raise HoldersAwayError(reason, tuple(request.id for request in without))
        self._refuse({request.id: self._nobody_holds(request) for request in without})
        if not self.requests:
            raise RequestRejectedError("; ".join(dict.fromkeys(self.refused.values())))

    def _nobody_holds(self, request: ForgetRequest) -> str:
        return f"no reachable client holds a sample of {self.context.words(request)}"

    def _aggregated(self, base: Arrays, models: ClientModels, purpose: str, number: int) -> Arrays:
        """The aggregate of a round; changes are bounded where training has told what is usual."""
        usual = self.context.served.update_norm
        factor = self.context.plan.max_norm_factor if self.context.kind.trusts_clients else 1.0
        try:
            return self.rounds.aggregate(base, models, purpose, number, None if usual is None else usual * factor)
        except AggregationFailedError as error:
            raise AttemptFailedError(str(error)) from error
