"""Serving one forget request: unlearn, repair, audit, gate, and then commit or roll back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from flwr.app import ConfigRecord

from fed_unlearn import protocol
from fed_unlearn.audits.figures import Figures
from fed_unlearn.checkpoints import CheckpointStore
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.gate import Decision, Evidence, Gate, Verdict
from fed_unlearn.ledger import Ledger, LedgerEntry
from fed_unlearn.lifecycle import Status
from fed_unlearn.protocol import AuditReply
from fed_unlearn.requests import ClassScope, ClientScope, ForgetRequest, SampleScope
from fed_unlearn.strategies.aggregation import (
    Arrays,
    add_clipped,
    all_finite,
    difference,
    to_record,
    weighted_average,
)
from fed_unlearn.strategies.auditing import Auditor, classes_of, figures, forget_accuracy
from fed_unlearn.strategies.events import Event, Observer
from fed_unlearn.strategies.outcomes import RelapseRow, RequestOutcome
from fed_unlearn.strategies.plan import UnlearningPlan
from fed_unlearn.strategies.rounds import HolderModels, Rounds

logger = logging.getLogger("fed_unlearn.strategies")


@dataclass
class ServedModel:
    """The last accepted model, and what is known of it.

    Attributes
    ----------
    arrays : dict of ndarray
    audit : AuditReply or None
        Of all parts.
    first_audit : AuditReply or None
        Of the model before the first request.
    update_norm : float or None
        Median norm of a client's change in the last training round; None before any.
    train_config : ConfigRecord
        Of the last training round.
    repair_rounds : int
        Repair rounds so far, over all requests.
    """

    arrays: Arrays
    audit: AuditReply | None = None
    first_audit: AuditReply | None = None
    update_norm: float | None = None
    train_config: ConfigRecord = field(default_factory=ConfigRecord)
    repair_rounds: int = 0


class Rejected(Exception):
    """A request that cannot be served as it was put; the text says why."""


@dataclass
class _Attempt:
    """One try at one request."""

    request: ForgetRequest
    number: int
    method: str
    parameters: dict[str, protocol.ParameterValue]
    candidate: Arrays
    step: int = 0
    repair_rounds: int = 0
    unlearned: Figures | None = None


@dataclass
class RequestService:
    """Serves requests, one at a time, on behalf of a strategy.

    Attributes
    ----------
    rounds, auditor, ledger, checkpoints, gate, plan, observer
        What it works with.
    served : ServedModel
        Replaced in place on commit.
    on_commit : callable
        Called after each commit: the strategy drops server state that still carries the forgotten data.
    """

    rounds: Rounds
    auditor: Auditor
    ledger: Ledger
    checkpoints: CheckpointStore
    gate: Gate
    plan: UnlearningPlan
    observer: Observer
    served: ServedModel
    on_commit: Callable[[], None]

    def serve(self, entry: LedgerEntry) -> tuple[RequestOutcome, RelapseRow | None]:
        """Take a request from where it stands to its end.

        Returns
        -------
        tuple of RequestOutcome and (RelapseRow or None)
            How it went, and how all committed requests stand afterwards; None where it was rejected.
        """
        request = entry.request
        started = time.perf_counter()
        self.rounds.grid.take_traffic()
        self._tell("request-started", request, f"{request.scope.kind} request {request.target()}")
        outcome = RequestOutcome(
            request=request,
            method=self.plan.method_of(request),
            status=Status.REJECTED,
            attempts=entry.attempt,
            repair_rounds=0,
            reason=None,
            before=None,
            unlearned=None,
            after=None,
            seconds=0.0,
            traffic=self.rounds.grid.traffic,
        )
        relapse: RelapseRow | None = None
        try:
            self._validate(request)
            outcome, relapse = self._attempts(entry, outcome)
        except Rejected as rejection:
            self.ledger.advance(entry.id, Status.REJECTED, attempt=entry.attempt, reason=str(rejection))
            self.rounds.settle(protocol.DISCARD, request, entry.attempt, release=True)
            outcome = replace(outcome, reason=str(rejection))
        outcome = replace(
            outcome, seconds=time.perf_counter() - started, traffic=self.rounds.grid.take_traffic()
        )
        self._tell("request-finished", request, f"{outcome.status}" + (f": {outcome.reason}" if outcome.reason else ""))
        return outcome, relapse

    # ------------------------------------------------------------------ one request

    def _validate(self, request: ForgetRequest) -> None:
        roster = self.rounds.grid.roster
        match request.scope:
            case ClassScope(classes=classes):
                absent = [item for item in classes if item >= roster.class_count]
                if absent:
                    raise Rejected(f"class {absent[0]} is not a class of the data (0..{roster.class_count - 1})")
                forgotten = sorted(self.ledger.forgotten_classes() & set(classes))
                if forgotten:
                    raise Rejected(f"class {forgotten[0]} is forgotten already")
            case SampleScope(client=client):
                if roster.node_of(client) is None:
                    raise Rejected(f"client {client} is not among the reachable clients")
            case ClientScope():
                raise Rejected("client requests are not served by this version")
        try:
            self.plan.parameters_of(request)
        except FedUnlearnError as error:
            raise Rejected(str(error)) from error

    def _attempts(self, entry: LedgerEntry, outcome: RequestOutcome) -> tuple[RequestOutcome, RelapseRow | None]:
        request, before = entry.request, None
        forgotten = self.ledger.forgotten_classes()
        number = entry.attempt
        self._abandon_open_attempt(entry)
        while True:
            number += 1
            self.ledger.advance(entry.id, Status.UNLEARNING, attempt=number)
            attempt = _Attempt(
                request,
                number,
                self.plan.method_of(request),
                self.plan.parameters_of(request),
                self.served.arrays,
            )
            self._unlearn(attempt)
            if before is None:
                before = self._figures_before(request)
            decision, audit = self._mend(attempt)
            after = figures(request, audit, audit, forgotten)
            outcome = replace(
                outcome,
                attempts=number,
                repair_rounds=attempt.repair_rounds,
                reason=decision.reason,
                before=before,
                unlearned=outcome.unlearned or attempt.unlearned,
                after=after,
            )
            if decision.verdict is Verdict.ACCEPT:
                relapse = self._commit(attempt, audit, after)
                return replace(outcome, status=Status.COMMITTED), relapse
            self._roll_back(attempt, decision, after)
            if decision.verdict is Verdict.ROLL_BACK:
                self.ledger.advance(
                    entry.id, Status.FAILED, attempt=number, reason=decision.reason, facts=_facts(after)
                )
                return replace(outcome, status=Status.FAILED), self.relapse_row(entry.id, audit=None)

    def _abandon_open_attempt(self, entry: LedgerEntry) -> None:
        """An attempt that a crash cut short counts as rolled back: its candidate is gone."""
        if entry.status not in (Status.RECEIVED, Status.ROLLED_BACK):
            self.rounds.settle(protocol.DISCARD, entry.request, entry.attempt)
            self.ledger.advance(entry.id, Status.ROLLED_BACK, attempt=entry.attempt, reason="the server stopped")

    def _unlearn(self, attempt: _Attempt) -> None:
        """One turn of the holders: their average for a class, their clipped changes for samples."""
        request, base = attempt.request, attempt.candidate
        holders = self.rounds.unlearn(
            request,
            base,
            method=attempt.method,
            parameters=attempt.parameters,
            attempt=attempt.number,
            step=attempt.step,
            excluded_classes=tuple(sorted({*self.ledger.forgotten_classes(), *classes_of(request)})),
        )
        attempt.step += 1
        self._check_holders(request, holders)
        if isinstance(request.scope, SampleScope):
            changes = [difference(model, base) for model in holders.models.values()]
            attempt.candidate = add_clipped(base, changes, self._max_update_norm(attempt))
        else:
            attempt.candidate = weighted_average(list(holders.models.values()), list(holders.weights.values()))
        self._tell("request-step", request, f"unlearned at {', '.join(holders.models)} by {attempt.method}")

    def _check_holders(self, request: ForgetRequest, holders: HolderModels) -> None:
        if holders.models:
            return
        if holders.refusals:
            raise Rejected("; ".join(holders.refusals.values()))
        raise Rejected(f"no reachable client holds a sample of {request.target()}")

    def _max_update_norm(self, attempt: _Attempt) -> float:
        """The bound on a holder's change; a model that was never trained here tells it by one repair round."""
        bound = self.plan.max_update_norm or self.served.update_norm
        if bound is None:
            repaired = self.rounds.repair(
                self.served.arrays, (), 1, self._repair_config(), self._next_repair_round()
            )
            if not repaired.update_norms:
                raise FedUnlearnError(f"request {attempt.request.id}: no client trained; nothing tells the norm bound")
            bound = self.served.update_norm = median(repaired.update_norms)
        return bound

    def _mend(self, attempt: _Attempt) -> tuple[Decision, AuditReply]:
        """Repair until the gate accepts or gives the attempt up."""
        request = attempt.request
        is_sample = isinstance(request.scope, SampleScope)
        planned = self.plan.alternations if is_sample else self.plan.repair_rounds
        forgotten = self.ledger.forgotten_classes()
        if planned:
            audit = self._audit(request, attempt.candidate)
            attempt.unlearned = figures(request, audit, audit, forgotten)
            self._repair(attempt, planned)
        while True:
            self.ledger.advance(request.id or "", Status.AUDITING, attempt=attempt.number)
            audit = self._audit(request, attempt.candidate)
            attempt.unlearned = attempt.unlearned or figures(request, audit, audit, forgotten)
            decision = self.gate.decide(request.scope.kind, self._evidence(attempt, audit))
            logger.info("request %s: %s%s", request.id, decision.verdict.value, _because(decision))
            if decision.verdict is not Verdict.REPAIR:
                return decision, audit
            self._tell("request-step", request, f"repair more: {decision.reason}")
            self._repair(attempt, 1)

    def _repair(self, attempt: _Attempt, count: int) -> None:
        """Guarded repair rounds; for samples each is followed by the holder's step, which is the last."""
        request = attempt.request
        for _ in range(count):
            self.ledger.advance(request.id or "", Status.REPAIRING, attempt=attempt.number)
            attempt.repair_rounds += 1
            repaired = self.rounds.repair(
                attempt.candidate,
                ((request.id or "", attempt.number),),
                self.plan.guard_weight,
                self._repair_config(),
                self._next_repair_round(),
            )
            attempt.candidate = repaired.arrays
            self._tell("request-step", request, f"repair round {attempt.repair_rounds}")
            if isinstance(request.scope, SampleScope):
                self.ledger.advance(request.id or "", Status.UNLEARNING, attempt=attempt.number)
                self._unlearn(attempt)

    def _commit(self, attempt: _Attempt, audit: AuditReply, after: Figures) -> RelapseRow:
        """Checkpoint, tombstones on the holders' disks, ledger; then whatever carries the data is purged."""
        request_id = attempt.request.id or ""
        self.ledger.advance(request_id, Status.COMMITTING, attempt=attempt.number, facts=_facts(after))
        digest = self.checkpoints.save(attempt.candidate)
        self.rounds.settle(
            protocol.CONFIRM, attempt.request, attempt.number, retention_days=self.plan.retention_days
        )
        self.ledger.accept_model(digest, request_id)
        self.ledger.advance(request_id, Status.COMMITTED, attempt=attempt.number)
        self.checkpoints.purge({digest})
        if self.served.first_audit is None:
            self.served.first_audit = self.served.audit
        self.served.arrays = attempt.candidate
        self.served.audit = audit
        self.on_commit()
        return self.relapse_row(request_id, audit)

    def _roll_back(self, attempt: _Attempt, decision: Decision, after: Figures) -> None:
        self.rounds.settle(protocol.DISCARD, attempt.request, attempt.number)
        self.ledger.advance(
            attempt.request.id or "",
            Status.ROLLED_BACK,
            attempt=attempt.number,
            reason=decision.reason,
            facts=_facts(after),
        )
        self._tell("request-step", attempt.request, f"rolled back: {decision.reason}")

    # ------------------------------------------------------------------ audits

    def relapse_row(self, after: str, audit: AuditReply | None) -> RelapseRow:
        """How all committed requests stand, from an audit of the served model; a new one where none is given."""
        committed = [entry.request for entry in self.ledger.committed()]
        if audit is None:
            audit = self.auditor.audit(to_record(self.served.arrays), committed)
        test = audit.parts["test"]
        return RelapseRow(
            after,
            {request.id or "": forget_accuracy(audit, request) for request in committed},
            {
                request.id or "": test.accuracy(only=classes_of(request)) if classes_of(request) else None
                for request in committed
            },
        )

    def _audit(self, request: ForgetRequest, candidate: Arrays) -> AuditReply:
        earlier = [entry.request for entry in self.ledger.committed()]
        self._tell("audit", request, "audit of the candidate")
        return self.auditor.audit(to_record(candidate), [*earlier, request])

    def _figures_before(self, request: ForgetRequest) -> Figures:
        """Figures of the served model; what a class request does not change is taken from its last audit."""
        record = to_record(self.served.arrays)
        forgotten = self.ledger.forgotten_classes()
        if self.served.audit is None or isinstance(request.scope, SampleScope):
            audit = self.auditor.audit(record, [request])
            self.served.audit = self.served.audit or audit
            return figures(request, audit, audit, forgotten)
        return figures(request, self.auditor.audit(record, [request], ("test",)), self.served.audit, forgotten)

    def _evidence(self, attempt: _Attempt, audit: AuditReply) -> Evidence:
        left_out = {*self.ledger.forgotten_classes(), *classes_of(attempt.request)}

        def validation_accuracy(reply: AuditReply | None) -> float | None:
            return reply.parts["validation"].accuracy(without=left_out) if reply is not None else None

        return Evidence(
            forget_accuracy=forget_accuracy(audit, attempt.request),
            retain_accuracy=validation_accuracy(audit),
            accepted_retain_accuracy=validation_accuracy(self.served.audit),
            first_retain_accuracy=validation_accuracy(self.served.first_audit),
            finite=all_finite(attempt.candidate),
            repair_rounds=attempt.repair_rounds,
            attempt=attempt.number,
        )

    # ------------------------------------------------------------------ small things

    def _repair_config(self) -> ConfigRecord:
        return ConfigRecord({**self.served.train_config, **self.plan.repair_config})

    def _next_repair_round(self) -> int:
        self.served.repair_rounds += 1
        return self.served.repair_rounds

    def _tell(self, kind: str, request: ForgetRequest, text: str) -> None:
        logger.info("request %s: %s", request.id, text)
        self.observer(Event(kind, text, request_id=request.id))  # type: ignore[arg-type]


def median(values: tuple[float, ...]) -> float:
    """Middle value, or the mean of the two in the middle."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _because(decision: Decision) -> str:
    return f": {decision.reason}" if decision.reason else ""


def _facts(measured: Figures) -> dict[str, float | None]:
    return {
        "forget_accuracy": measured.forget_accuracy,
        "retain_accuracy": measured.retain_accuracy,
        "test_forget_accuracy": measured.test_forget_accuracy,
        "test_retain_accuracy": measured.test_retain_accuracy,
        "membership_auc": measured.membership_auc,
    }
