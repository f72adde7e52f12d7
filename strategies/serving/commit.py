"""How requests leave an attempt: committed, to be tried again, waiting, failed or rejected; read it top to bottom."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from fed_unlearn import protocol
from fed_unlearn.audits.pooled import Audit
from fed_unlearn.gate import Decision, Verdict
from fed_unlearn.ledger import LedgerEntry
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.clients.rounds import Rounds
from fed_unlearn.strategies.context import CallContext
from fed_unlearn.strategies.inner.kept_models import replace_kept_models
from fed_unlearn.strategies.outcomes import RequestOutcome, RequestProgress
from fed_unlearn.strategies.serving.attempts.allowance import RequestBudget
from fed_unlearn.strategies.serving.attempts.attempt import Attempt
from fed_unlearn.strategies.serving.attendance import CommitFailedError, Tombstones
from fed_unlearn.strategies.serving.judge import Progress
from fed_unlearn.strategies.serving.reasons import reason_of
from fed_unlearn.strategies.serving.relapse import RelapseWatch
from fed_unlearn.strategies.state import OpenCommit, owe_look


@dataclass(frozen=True)
class Conclusion:
    """What the gate made of an attempt.

    Attributes
    ----------
    accepted : Audit or None
        Audit of the candidate, where requests without a decision are accepted.
    decisions : mapping of str to Decision
        Decisions on the requests that are not accepted, by request. Each is tried again by its method or by another
        one, or given up.
    split : bool
        Whether these requests are tried again as they were, each by itself.
    blameless : collection of str
        Requests that are tried again as they were, since others failed.
    """

    accepted: Audit | None = None
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    split: bool = False
    blameless: Collection[str] = ()


@dataclass(frozen=True)
class RequestClosing:
    """Writes down how requests fared, and tells clients and observers.

    Attributes
    ----------
    context : CallContext
        What the call works with.
    watch : RelapseWatch
        Looks at all committed requests after each commit.
    """

    context: CallContext
    watch: RelapseWatch

    # ------------------------------------------------------------------ after an attempt

    def conclude(self, attempt: Attempt, conclusion: Conclusion, progress: Progress) -> None:
        """End an attempt: all of it is written down in one transaction, then clients are told, then it is committed."""
        number, decisions = attempt.order.number, conclusion.decisions
        failed = [request for request in attempt.requests if request.id in decisions]
        refused = [self.context.ledger.entry(name).request for name in attempt.refused]
        accepted = conclusion.accepted
        digest = self.context.checkpoints.save(attempt.candidate) if accepted is not None else ""
        with self.context.ledger.transaction():
            for request in refused:
                self._finish(request, Status.REJECTED, number, attempt.refused[request.id], RequestProgress())
            for request in failed:
                self._roll_back(request, number, conclusion, progress[request.id])
            self._close_attempt()
            if accepted is not None:
                self._begin_commit(attempt, progress, decisions, digest, accepted)
        self._discard(refused, number, release=True)
        self._discard(failed, number)
        self.finish_commit(accepted)
        self.context.state.purge()

    def give_way(self, attempt: Attempt, progress: Progress, waiting: Collection[str], reason: str) -> None:
        """Let requests whose holders are away wait; those that shared the attempt with them are tried again at once."""
        order, ledger = attempt.order, self.context.ledger
        Rounds(self.context).settle(protocol.DISCARD, order.requests, dict.fromkeys(order.ids, order.number))
        with ledger.transaction():
            for name in order.ids:
                ledger.advance(name, Status.ROLLED_BACK, attempt=order.number, reason=reason)
                self.context.state.save_progress(name, progress[name])
                if name in waiting:
                    self.wait(ledger.entry(name), reason)
            self._close_attempt()

    def _roll_back(
        self, request: ForgetRequest, number: int, conclusion: Conclusion, progress: RequestProgress
    ) -> None:
        decision = conclusion.decisions[request.id]
        progress.alone = progress.alone or conclusion.split
        as_it_was = conclusion.split or request.id in conclusion.blameless
        self.context.ledger.advance(request.id, Status.ROLLED_BACK, attempt=number, reason=decision.reason)
        self.context.tell("request-step", f"rolled back: {decision.reason}", request)
        if decision.verdict is Verdict.HOLD:
            progress.left_out = tuple(sorted({*progress.left_out, *decision.doubted}))
            self.context.state.save_progress(request.id, progress)
            self.context.ledger.advance(request.id, Status.HELD, attempt=number, reason=decision.reason)
            self.context.tell("request-waits", f"held: {decision.reason}", request)
            method = self.context.ledger.entry(request.id).method or self.context.plan.method_of(request)
            held = progress.outcome(request, Status.HELD, method=method, attempts=number, reason=decision.reason)
            self.context.result.requests.append(held)
            return
        if not as_it_was and decision.verdict is Verdict.ROLL_BACK:
            self._finish(request, Status.FAILED, number, decision.reason or "", progress)
            return
        if not as_it_was:
            progress.try_again(another_method=decision.verdict is Verdict.ESCALATE)
        self.context.state.save_progress(request.id, progress)

    def _close_attempt(self) -> None:
        self.context.state.save_open_work(None)
        self.context.state.save_served(self.context.served)
        self.context.state.save_inner()

    # ------------------------------------------------------------------ the commit

    def _begin_commit(
        self,
        attempt: Attempt,
        progress: Progress,
        decisions: Mapping[str, Decision],
        digest: str,
        audit: Audit,
    ) -> None:
        """Write down which requests are accepted with this model; from here on they are committed, crash or not."""
        order, served = attempt.order, self.context.served
        outcomes = {
            request.id: progress[request.id].outcome(
                request,
                Status.COMMITTED,
                method=attempt.method_name,
                attempts=order.number,
                reason=reason_of(request, progress[request.id], has_changed=attempt.has_changed(request)),
            )
            for request in attempt.requests
            if request.id not in decisions
        }
        for name, outcome in outcomes.items():
            figures = outcome.after.named() if outcome.after is not None else {}
            facts = {"digest": digest, **figures, "evidence": str(outcome.evidence)}
            self.context.ledger.advance(name, Status.COMMITTING, attempt=order.number, facts=facts)
        commit = OpenCommit(
            requests=tuple(outcomes),
            committing=digest,
            outcomes={name: outcome.to_json() for name, outcome in outcomes.items()},
            audit=audit.without_targets(),
            holders={name: tuple(sorted(held)) for name, held in attempt.holders.items() if name in outcomes},
            away=tuple(sorted(attempt.away)),
            repair_rounds=served.repair_rounds,
            update_norm=served.update_norm,
            moved=attempt.moved_by_clients(),
        )
        self.context.state.save_open_work(commit)

    def finish_commit(self, audit: Audit | None = None) -> None:
        """Take the open commit to its end, if there is one: tombstones, the ledger's transaction, the purge.

        The requests of the commit fail where a holder answers and does not confirm: others have their tombstones, so
        that there is no further attempt. A holder that does not answer owes them, and takes no part until it has them.

        Parameters
        ----------
        audit : Audit, optional
            Audit of the accepted model with all committed requests, where there is one.
        """
        commit = self.context.state.open_work()
        if not isinstance(commit, OpenCommit):
            return
        entries = [self.context.ledger.entry(name) for name in commit.requests]
        outcomes = [RequestOutcome.from_json(entry.request, commit.outcomes[entry.id]) for entry in entries]
        attempts = {outcome.request.id: outcome.attempts for outcome in outcomes}
        requests = [entry.request for entry in entries]
        tombstones, started = Tombstones(self.context), time.perf_counter()
        self.context.grid.take_traffic()  # not of these requests: discards of others, or identifying after a crash
        try:
            confirmed, silent = tombstones.confirm(requests, attempts, commit.holders)
        except CommitFailedError as error:
            self._fail_commit(entries, str(error))
            return
        outcomes = self._with_cost(outcomes, time.perf_counter() - started)
        self._serve(commit)
        with self.context.ledger.transaction():
            ended = {outcome.request.id: outcome.to_json() for outcome in outcomes}
            self.context.ledger.commit(ended, commit.committing, attempts=attempts)
            owe_look(self.context.ledger, "+".join(commit.requests), may_reopen=False)
            RequestBudget(self.context.ledger, self.context.plan.request_bound).spend(commit.moved)
            tombstones.note_debts(requests, set(commit.away) - confirmed, silent)
            for name in commit.requests:
                self.context.state.save_progress(name, None)
            self._close_attempt()
        self.context.state.purge()
        for outcome in outcomes:
            self.context.tell("request-finished", str(outcome.status), outcome.request)
            self.context.result.requests.append(outcome)
        self.watch.look("+".join(commit.requests), audit, may_reopen=False)

    def _serve(self, commit: OpenCommit) -> None:
        """Put the accepted model in place of the served one; all that still carries the forgotten data goes."""
        if self.context.history is not None:
            self.context.history.purge()
        served = self.context.served
        served.first_audit = served.first_audit or served.audit
        served.arrays = self.context.checkpoints.load(commit.committing)
        served.audit = commit.audit
        served.repair_rounds, served.update_norm = commit.repair_rounds, commit.update_norm
        replace_kept_models(self.context.inner, served.arrays)

    def _with_cost(self, outcomes: list[RequestOutcome], seconds: float) -> list[RequestOutcome]:
        """The outcomes, with time and traffic of the commit divided among them."""
        parts = self.context.grid.take_traffic().divided(len(outcomes))
        for outcome, part in zip(outcomes, parts, strict=True):
            part.add(outcome.traffic)
        return [
            replace(outcome, seconds=outcome.seconds + seconds / len(outcomes), traffic=part)
            for outcome, part in zip(outcomes, parts, strict=True)
        ]

    def _fail_commit(self, entries: list[LedgerEntry], reason: str) -> None:
        for entry in entries:
            self._discard([entry.request], entry.attempt)
        with self.context.ledger.transaction():
            for entry in entries:
                self.context.ledger.advance(entry.id, Status.ROLLED_BACK, attempt=entry.attempt, reason=reason)
                self.give_up(entry, reason)
            self.context.state.save_open_work(None)
            self.context.state.save_inner()

    # ------------------------------------------------------------------ without an attempt

    def wait(self, entry: LedgerEntry, reason: str) -> None:
        """Let a request wait until its client is back."""
        if entry.status is not Status.WAITING:
            self.context.ledger.advance(entry.id, Status.WAITING, attempt=entry.attempt, reason=reason)
            self.context.tell("request-waits", f"waiting: {reason}", entry.request)

    def hold(self, entry: LedgerEntry, reason: str) -> None:
        """Let a request wait for a person's approval."""
        with self.context.ledger.transaction():
            if self.context.ledger.entry(entry.id).approved:
                return
            self.context.ledger.advance(entry.id, Status.HELD, attempt=entry.attempt, reason=reason)
        self.context.tell("request-waits", f"held: {reason}", entry.request)

    def reject(self, entry: LedgerEntry, reason: str) -> None:
        """End a request that cannot be served as it was put; what it had taken out of training goes back."""
        self._finish(entry.request, Status.REJECTED, entry.attempt, reason, RequestProgress())
        if entry.attempt:
            self._discard([entry.request], entry.attempt, release=True)

    def give_up(self, entry: LedgerEntry, reason: str) -> None:
        """End a request that was tried and cannot be tried again; its samples are used no more."""
        self._finish(entry.request, Status.FAILED, entry.attempt, reason, self.context.state.progress(entry.id))

    def _discard(self, requests: list[ForgetRequest], number: int, *, release: bool = False) -> None:
        if requests:
            attempts = {request.id: number for request in requests}
            Rounds(self.context).settle(protocol.DISCARD, requests, attempts, release=release)
        for request in requests if release else ():
            self.context.grid.roster.take_back(request)

    def _finish(
        self, request: ForgetRequest, status: Status, number: int, reason: str, progress: RequestProgress
    ) -> None:
        failed = status is Status.FAILED
        method = self.context.ledger.entry(request.id).method if failed else None
        outcome = progress.outcome(
            request,
            status,
            method=method or self.context.plan.method_of(request),
            attempts=number if failed else 0,
            reason=reason,
        )
        with self.context.ledger.transaction():
            self.context.ledger.finish(request.id, status, attempt=number, reason=reason, outcome=outcome.to_json())
            self.context.state.save_progress(request.id, None)
        self.context.tell("request-finished", f"{status}: {reason}", request, is_warning=True)
        self.context.result.requests.append(outcome)
