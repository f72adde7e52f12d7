"""How requests leave an attempt: committed, to be tried again, waiting, failed or rejected."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from fed_unlearn import protocol
from fed_unlearn.audits.pooled import Audit
from fed_unlearn.checkpoints import CheckpointStore
from fed_unlearn.gate import Decision, Verdict
from fed_unlearn.ledger import Ledger, LedgerEntry
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ClientScope, ForgetRequest
from fed_unlearn.strategies.clients.rounds import Rounds
from fed_unlearn.strategies.events import Event, Observer
from fed_unlearn.strategies.outcomes import RequestOutcome
from fed_unlearn.strategies.plan import UnlearningPlan
from fed_unlearn.strategies.serving.attempt import Attempt, CommitFailedError
from fed_unlearn.strategies.serving.commit import Committer
from fed_unlearn.strategies.serving.figures import Memories
from fed_unlearn.strategies.serving.memory import RequestMemory
from fed_unlearn.strategies.state import DurableState, ServedModel

logger = logging.getLogger("fed_unlearn.strategies")


@dataclass(frozen=True)
class Endings:
    """Writes down how requests fared, and tells clients and observers.

    Attributes
    ----------
    rounds, ledger, checkpoints, state, plan, observer, committer
        What it works with.
    served : ServedModel
        Replaced in place on commit.
    on_outcome : callable
        Told how each request ended.
    on_commit : callable
        Told, after each commit, its name and the audit of the model that serves now, where there is one.
    """

    rounds: Rounds
    ledger: Ledger
    checkpoints: CheckpointStore
    state: DurableState
    plan: UnlearningPlan
    observer: Observer
    committer: Committer
    served: ServedModel
    on_outcome: Callable[[RequestOutcome], None]
    on_commit: Callable[[str, Audit | None], None]

    def conclude(
        self,
        attempt: Attempt,
        accepted: Audit | None,
        decisions: Mapping[str, Decision],
        memories: Memories,
        *,
        split: bool,
        blameless: Collection[str] = (),
    ) -> None:
        """End an attempt: all of it is written down in one transaction, then clients are told, then it is committed.

        Parameters
        ----------
        attempt : Attempt
        accepted : Audit or None
            Of the candidate, where those of its requests that have no decision are accepted.
        decisions : mapping of str to Decision
            For each request that is not: to be tried again, by another method, or given up.
        memories : mapping of str to RequestMemory
        split : bool
            Whether those are to be tried again as they were, but each by itself.
        blameless : collection of str
            Those of them that are to be tried again as they were: it was others that failed.
        """
        number = attempt.order.number
        failed = [request for request in attempt.requests if request.id in decisions]
        kept = [request for request in attempt.requests if request.id not in decisions]
        digest = self.checkpoints.save(attempt.candidate) if accepted is not None else ""
        with self.ledger.transaction():
            for name, reason in attempt.refused.items():
                self._reject(self.ledger.entry(name).request, number, reason)
            for request in failed:
                memory = memories[request.id]
                memory.alone = memory.alone or split
                as_it_was = split or request.id in blameless
                self._roll_back(request, number, decisions[request.id], memory, as_it_was=as_it_was)
            self.state.save_attempt(None)
            self.state.save_served(self.served)
            self.state.save_inner()
            if accepted is not None:
                outcomes = {
                    request.id: memories[request.id].outcome(request, Status.COMMITTED, attempt, None)
                    for request in kept
                }
                self.committer.begin(outcomes, digest, accepted, attempt.holders, attempt.away)
        refused = [self.ledger.entry(name).request for name in attempt.refused]
        self._discard(refused, number, release=True)
        self._discard(failed, number)
        body = self.state.attempt()
        if body is not None:
            self.finish_commit(body, accepted)
        self.state.purge()

    def finish_commit(self, body: Mapping[str, object], audit: Audit | None = None) -> None:
        """Take a commit to its end; where holders do not confirm, its requests fail: others have their tombstones."""
        try:
            outcomes = self.committer.finish(body)
        except CommitFailedError as error:
            ids: list[str] = list(body["requests"])  # type: ignore[call-overload]
            entries = [self.ledger.entry(name) for name in ids]
            for entry in entries:
                self._discard([entry.request], entry.attempt)
            with self.ledger.transaction():
                for entry in entries:
                    self.ledger.advance(entry.id, Status.ROLLED_BACK, attempt=entry.attempt, reason=str(error))
                    memory = RequestMemory.load(self.state, entry.id)
                    self._fail(entry.request, entry.attempt, str(error), memory)
                self.state.save_attempt(None)
                self.state.save_inner()
            return
        for outcome in outcomes.values():
            self.tell("request-finished", outcome.request, str(outcome.status))
            self.on_outcome(outcome)
        self.on_commit("+".join(outcomes), audit)

    def give_way(self, attempt: Attempt, memories: Memories, waiting: Collection[str], reason: str) -> None:
        """Requests whose holders are away wait; those that shared the attempt with them are tried again at once."""
        number = attempt.order.number
        self.rounds.settle(protocol.DISCARD, attempt.order.requests, dict.fromkeys(attempt.order.ids, number))
        with self.ledger.transaction():
            for name in attempt.order.ids:
                self.ledger.advance(name, Status.ROLLED_BACK, attempt=number, reason=reason)
                memories[name].save(self.state)
                if name in waiting:
                    self.wait(self.ledger.entry(name), reason)
            self.state.save_attempt(None)
            self.state.save_served(self.served)
            self.state.save_inner()

    def wait(self, entry: LedgerEntry, reason: str) -> None:
        """Let a request wait until its client is back."""
        if entry.status is not Status.WAITING:
            self.ledger.advance(entry.id, Status.WAITING, attempt=entry.attempt, reason=reason)
            self.tell("request-waits", entry.request, f"waiting: {reason}")

    def hold(self, entry: LedgerEntry, reason: str) -> None:
        """Let a request wait for a person's approval."""
        with self.ledger.transaction():
            if self.ledger.entry(entry.id).approved:
                return
            self.ledger.advance(entry.id, Status.HELD, attempt=entry.attempt, reason=reason)
        self.tell("request-waits", entry.request, f"held: {reason}")

    def reject(self, request: ForgetRequest, number: int, reason: str) -> None:
        """A request that cannot be served as it was put: what it had taken out of training goes back.

        Parameters
        ----------
        request : ForgetRequest
        number : int
            Of its last attempt; 0 before any.
        reason : str
        """
        self._reject(request, number, reason)
        if number:
            self._discard([request], number, release=True)

    def give_up(self, entry: LedgerEntry, reason: str) -> None:
        """A request that was tried and cannot be tried again: its samples are used no more, as of any that failed."""
        self._fail(entry.request, entry.attempt, reason, RequestMemory.load(self.state, entry.id))

    def stay(self, request: ForgetRequest) -> None:
        """A client that was to be forgotten, and is not, takes part again."""
        if isinstance(request.scope, ClientScope):
            self.rounds.grid.roster.leaving.discard(request.scope.client)

    def tell(self, kind: str, request: ForgetRequest, text: str) -> None:
        """Say what happens, to the log and to the observer."""
        logger.info("request %s: %s", request.id, text)
        self.observer(Event(kind, text, request_id=request.id))  # type: ignore[arg-type]

    def _discard(self, requests: list[ForgetRequest], number: int, *, release: bool = False) -> None:
        if requests:
            attempts = {request.id: number for request in requests}
            self.rounds.settle(protocol.DISCARD, requests, attempts, release=release)
        for request in requests if release else ():
            self.stay(request)

    def _roll_back(
        self, request: ForgetRequest, number: int, decision: Decision, memory: RequestMemory, *, as_it_was: bool
    ) -> None:
        self.ledger.advance(request.id, Status.ROLLED_BACK, attempt=number, reason=decision.reason)
        self.tell("request-step", request, f"rolled back: {decision.reason}")
        if not as_it_was and decision.verdict is Verdict.ROLL_BACK:
            self._fail(request, number, decision.reason or "", memory)
            return
        if not as_it_was:
            memory.try_again(another_method=decision.verdict is Verdict.ESCALATE)
        memory.save(self.state)

    def _reject(self, request: ForgetRequest, number: int, reason: str) -> None:
        outcome = replace(
            RequestMemory(request.id).outcome(request, Status.REJECTED, None, reason),
            method=self.plan.method_of(request),
        )
        self._finish(request, Status.REJECTED, number, reason, outcome)

    def _fail(self, request: ForgetRequest, number: int, reason: str, memory: RequestMemory) -> None:
        outcome = replace(
            memory.outcome(request, Status.FAILED, None, reason),
            method=self.ledger.entry(request.id).method or self.plan.method_of(request),
            attempts=number,
        )
        self._finish(request, Status.FAILED, number, reason, outcome)

    def _finish(
        self, request: ForgetRequest, status: Status, number: int, reason: str, outcome: RequestOutcome
    ) -> None:
        with self.ledger.transaction():
            self.ledger.finish(request.id, status, attempt=number, reason=reason, outcome=outcome.to_json())
            self.state.save_request(request.id, None)
        self.tell("request-finished", request, f"{status}: {reason}")
        self.on_outcome(outcome)
