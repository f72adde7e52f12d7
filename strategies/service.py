"""Serving one forget request: unlearn, repair, audit, gate, and then commit or roll back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, pack
from fed_unlearn.audits.figures import Figures
from fed_unlearn.checkpoints import CheckpointStore
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.gate import Decision, Evidence, Gate, Verdict
from fed_unlearn.ledger import Ledger, LedgerEntry
from fed_unlearn.lifecycle import Status
from fed_unlearn.protocol import AuditReply
from fed_unlearn.requests import ClassScope, ClientScope, ForgetRequest, SampleScope
from fed_unlearn.strategies.aggregation import all_finite
from fed_unlearn.strategies.attempt import (
    Attempt,
    AttemptFailedError,
    CommitFailedError,
    RequestRejectedError,
    ServedModel,
)
from fed_unlearn.strategies.auditing import Auditor, classes_of, figures, forget_accuracy
from fed_unlearn.strategies.events import Event, Observer
from fed_unlearn.strategies.outcomes import RelapseRow, RequestOutcome
from fed_unlearn.strategies.plan import UnlearningPlan
from fed_unlearn.strategies.rounds import Rounds

logger = logging.getLogger("fed_unlearn.strategies")


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
        except RequestRejectedError as rejection:
            self.ledger.advance(entry.id, Status.REJECTED, attempt=entry.attempt, reason=str(rejection))
            self.rounds.settle(protocol.DISCARD, request, entry.attempt, release=True)
            outcome = replace(outcome, reason=str(rejection))
        outcome = replace(outcome, seconds=time.perf_counter() - started, traffic=self.rounds.grid.take_traffic())
        self._tell("request-finished", request, f"{outcome.status}" + (f": {outcome.reason}" if outcome.reason else ""))
        return outcome, relapse

    # ------------------------------------------------------------------ one request

    def _validate(self, request: ForgetRequest) -> None:
        roster = self.rounds.grid.roster
        match request.scope:
            case ClassScope(classes=classes):
                absent = [item for item in classes if item >= roster.class_count]
                if absent:
                    raise RequestRejectedError(
                        f"class {absent[0]} is not a class of the data (0..{roster.class_count - 1})"
                    )
                forgotten = sorted(self.ledger.forgotten_classes() & set(classes))
                if forgotten:
                    raise RequestRejectedError(f"class {forgotten[0]} is forgotten already")
            case SampleScope(client=client):
                if roster.node_of(client) is None:
                    raise RequestRejectedError(f"client {client} is not among the reachable clients")
            case ClientScope():
                raise RequestRejectedError("client requests are not served by this version")
        try:
            self.plan.parameters_of(request)
        except FedUnlearnError as error:
            raise RequestRejectedError(str(error)) from error

    def _attempts(self, entry: LedgerEntry, outcome: RequestOutcome) -> tuple[RequestOutcome, RelapseRow | None]:
        request = entry.request
        forgotten = self.ledger.forgotten_classes()
        number = entry.attempt
        if entry.status is Status.COMMITTING:
            return replace(outcome, status=Status.COMMITTED), self._resume_commit(entry)
        self._abandon_open_attempt(entry)
        while True:
            number += 1
            self.ledger.advance(entry.id, Status.UNLEARNING, attempt=number)
            attempt = self._new_attempt(request, number)
            relapse: RelapseRow | None = None
            try:
                attempt.unlearn()
                if outcome.before is None:
                    outcome = replace(outcome, before=self._figures_before(request))
                decision, audit = self._mend(attempt)
                after = figures(request, audit, audit, forgotten)
                outcome = replace(outcome, after=after)
                if decision.verdict is Verdict.ACCEPT:
                    relapse = self._commit(attempt, audit, after)
            except AttemptFailedError as error:
                again = number < self.gate.max_attempts and not isinstance(error, CommitFailedError)
                decision = Decision(Verdict.RETRY if again else Verdict.ROLL_BACK, (str(error),))
            outcome = replace(
                outcome,
                attempts=number,
                repair_rounds=attempt.repair_rounds,
                reason=decision.reason,
                unlearned=outcome.unlearned or attempt.unlearned,
            )
            if relapse is not None:
                return replace(outcome, status=Status.COMMITTED), relapse
            self._roll_back(attempt, decision, outcome.after)
            if decision.verdict is Verdict.ROLL_BACK:
                self.ledger.advance(entry.id, Status.FAILED, attempt=number, reason=decision.reason)
                return replace(outcome, status=Status.FAILED), self.relapse_row(entry.id, audit=None)

    def _abandon_open_attempt(self, entry: LedgerEntry) -> None:
        """An attempt that a crash cut short counts as rolled back: its candidate is gone."""
        if entry.status not in (Status.RECEIVED, Status.ROLLED_BACK):
            self.rounds.settle(protocol.DISCARD, entry.request, entry.attempt)
            self.ledger.advance(entry.id, Status.ROLLED_BACK, attempt=entry.attempt, reason="the server stopped")

    def _resume_commit(self, entry: LedgerEntry) -> RelapseRow:
        """A commit that a crash cut short goes on: the gate had accepted, and holders may have their tombstones."""
        digest = self.ledger.committing_model(entry.id)
        if digest is None:
            raise FedUnlearnError(f"request {entry.id}: the ledger does not name the model to commit")
        self.served.arrays = self.checkpoints.load(digest)
        self._confirm(entry.request, entry.attempt, holders=())
        return self._finish_commit(entry.request, entry.attempt, digest, audit=None)

    def _new_attempt(self, request: ForgetRequest, number: int) -> Attempt:
        return Attempt(
            request=request,
            number=number,
            method=self.plan.method_of(request),
            parameters=self.plan.parameters_of(request),
            excluded_classes=tuple(sorted({*self.ledger.forgotten_classes(), *classes_of(request)})),
            rounds=self.rounds,
            plan=self.plan,
            served=self.served,
            candidate=self.served.arrays,
            on_step=lambda text: self._tell("request-step", request, text),
        )

    def _mend(self, attempt: Attempt) -> tuple[Decision, AuditReply]:
        """Repair until the gate accepts or gives the attempt up."""
        request = attempt.request
        planned = self.plan.alternations if attempt.is_sample else self.plan.repair_rounds
        forgotten = self.ledger.forgotten_classes()
        if planned:
            audit = self._audit(request, attempt.candidate)
            attempt.unlearned = figures(request, audit, audit, forgotten)
        for _ in range(planned):
            self._repair(attempt)
        while True:
            self.ledger.advance(request.id or "", Status.AUDITING, attempt=attempt.number)
            audit = self._audit(request, attempt.candidate)
            attempt.unlearned = attempt.unlearned or figures(request, audit, audit, forgotten)
            decision = self.gate.decide(request.scope.kind, self._evidence(attempt, audit))
            logger.info("request %s: %s: %s", request.id, decision.verdict.value, decision.reason or "all met")
            if decision.verdict is not Verdict.REPAIR:
                return decision, audit
            self._tell("request-step", request, f"repair more: {decision.reason}")
            self._repair(attempt)

    def _repair(self, attempt: Attempt) -> None:
        self.ledger.advance(attempt.request.id or "", Status.REPAIRING, attempt=attempt.number)
        attempt.repair()
        if attempt.is_sample:
            self.ledger.advance(attempt.request.id or "", Status.UNLEARNING, attempt=attempt.number)
            attempt.unlearn()

    def _commit(self, attempt: Attempt, audit: AuditReply, after: Figures) -> RelapseRow:
        """Checkpoint, tombstones on the holders' disks, ledger; then whatever carries the data is purged."""
        digest = self.checkpoints.save(attempt.candidate)
        self.ledger.advance(
            attempt.request.id or "",
            Status.COMMITTING,
            attempt=attempt.number,
            facts={**_facts(after), "digest": digest},
        )
        self._confirm(attempt.request, attempt.number, attempt.holders)
        if self.served.first_audit is None:
            self.served.first_audit = self.served.audit
        self.served.arrays = attempt.candidate
        return self._finish_commit(attempt.request, attempt.number, digest, audit)

    def _confirm(self, request: ForgetRequest, number: int, holders: Collection[str]) -> None:
        """Have tombstones written, and remember what each client showed; asks once more where a holder is silent."""
        for is_last in (False, True):
            answers = self.rounds.settle(protocol.CONFIRM, request, number, retention_days=self.plan.retention_days)
            for client in answers.replies:
                self.ledger.confirm_tombstones(client, self.rounds.grid.roster.tombstones[client])
            missing = [client for client in holders if client not in answers.replies]
            if not missing:
                return
            if is_last:
                raise CommitFailedError(f"clients {', '.join(missing)} did not confirm their tombstones")

    def _finish_commit(self, request: ForgetRequest, number: int, digest: str, audit: AuditReply | None) -> RelapseRow:
        request_id = request.id or ""
        self.ledger.commit(request_id, digest, attempt=number)
        self.checkpoints.purge({digest})
        self.served.audit = audit
        self.on_commit()
        return self.relapse_row(request_id, audit)

    def _roll_back(self, attempt: Attempt, decision: Decision, after: Figures | None) -> None:
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
            audit = self.auditor.audit(pack(self.served.arrays), committed)
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
        return self.auditor.audit(pack(candidate), [*earlier, request])

    def _figures_before(self, request: ForgetRequest) -> Figures:
        """Figures of the served model; what a class request does not change is taken from its last audit."""
        record = pack(self.served.arrays)
        forgotten = self.ledger.forgotten_classes()
        if self.served.audit is None or isinstance(request.scope, SampleScope):
            audit = self.auditor.audit(record, [request])
            self.served.audit = self.served.audit or audit
            return figures(request, audit, audit, forgotten)
        return figures(request, self.auditor.audit(record, [request], ("test",)), self.served.audit, forgotten)

    def _evidence(self, attempt: Attempt, audit: AuditReply) -> Evidence:
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

    def _tell(self, kind: str, request: ForgetRequest, text: str) -> None:
        logger.info("request %s: %s", request.id, text)
        self.observer(Event(kind, text, request_id=request.id))  # type: ignore[arg-type]


def _facts(measured: Figures | None) -> dict[str, float | None]:
    if measured is None:
        return {}
    return {
        "forget_accuracy": measured.forget_accuracy,
        "retain_accuracy": measured.retain_accuracy,
        "test_forget_accuracy": measured.test_forget_accuracy,
        "test_retain_accuracy": measured.test_retain_accuracy,
        "membership_auc": measured.membership_auc,
    }
