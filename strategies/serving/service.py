"""Serving forget requests: unlearn, repair, audit, gate, and then commit or roll back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from fed_unlearn.audits.pooled import Audit, classes_of
from fed_unlearn.errors import TransitionError
from fed_unlearn.gate import Decision, Gate
from fed_unlearn.ledger import Ledger, LedgerEntry
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ClientScope
from fed_unlearn.strategies.clients.grid import NobodyAnsweredError
from fed_unlearn.strategies.clients.rounds import Rounds
from fed_unlearn.strategies.plan import UnlearningPlan
from fed_unlearn.strategies.serving.attempt import (
    Attempt,
    AttemptFailedError,
    HoldersAwayError,
    HoldersFailedError,
    Order,
    RequestRejectedError,
)
from fed_unlearn.strategies.serving.endings import Endings
from fed_unlearn.strategies.serving.figures import Measuring, Memories
from fed_unlearn.strategies.serving.judge import Judge, Judgement
from fed_unlearn.strategies.serving.memory import RequestMemory
from fed_unlearn.strategies.serving.schedule import Batch, Placed, Scheduler, Standing
from fed_unlearn.strategies.serving.server_attempt import MethodUnfitError
from fed_unlearn.strategies.serving.withdrawal import Withdrawals
from fed_unlearn.strategies.state import DurableState, ServedModel

logger = logging.getLogger("fed_unlearn.strategies")


@dataclass
class RequestService:
    """Serves what is pending, on behalf of a strategy.

    Attributes
    ----------
    rounds, ledger, state, gate, plan, measuring, endings, withdrawals
        What it works with.
    served : ServedModel
        Replaced in place on commit.
    new_attempt : callable
        Makes an attempt of an order, by the holders or by the server; the second argument is told what was done.
    keep_inner_state : callable
        Called before an attempt; what it returns is called where the attempt is rolled back.
    refresh : callable
        Looks for clients that have come back, and has them write the tombstones that they owe.
    """

    rounds: Rounds
    ledger: Ledger
    state: DurableState
    gate: Gate
    plan: UnlearningPlan
    measuring: Measuring
    endings: Endings
    withdrawals: Withdrawals
    served: ServedModel
    new_attempt: Callable[[Order, Callable[[str], None]], Attempt]
    keep_inner_state: Callable[[], Callable[[], None]]
    refresh: Callable[[], None]
    _deferred: set[str] = field(default_factory=set)

    def serve_pending(self) -> None:
        """Take every pending request as far as it goes now: to its end, or to where it has to wait."""
        self._deferred.clear()
        self.refresh()
        if self.withdrawals.tell():
            self.refresh()
        self._resume()
        while (batch := self._next_batch()) is not None:
            self._serve(batch)

    def has_work(self) -> bool:
        """Whether there is something that can be done now; clients that have come back take part from here on."""
        entries = [entry for entry in self.ledger.pending() if entry.status is not Status.HELD]
        waits = all(entry.status is Status.WAITING for entry in entries)
        if self.rounds.grid.has_new_nodes() or (entries and waits):
            self.refresh()
        if waits:
            scheduler, connected = self._scheduler(), self.rounds.grid.connected()
            entries = [entry for entry in entries if scheduler.place(entry, connected).standing is not Standing.WAITS]
        return bool(entries) or self.withdrawals.has_work()

    # ------------------------------------------------------------------ what comes next

    def _next_batch(self) -> Batch | None:
        scheduler = self._scheduler()
        connected = self.rounds.grid.connected()
        ready: list[LedgerEntry] = []
        for entry in self.ledger.pending():
            if entry.id in self._deferred or entry.status is Status.HELD:
                continue
            placed = scheduler.place(entry, connected)
            if placed.standing is Standing.READY:
                ready.append(entry)
            else:
                self._set_aside(placed)
        return scheduler.batch(ready) if ready else None

    def _set_aside(self, placed: Placed) -> None:
        try:
            self._put_aside(placed)
        except TransitionError:
            if self.ledger.entry(placed.entry.id).status is not Status.WITHDRAWN:
                raise

    def _put_aside(self, placed: Placed) -> None:
        entry, reason = placed.entry, placed.reason or ""
        if placed.standing is Standing.IMPOSSIBLE:
            self._announce(entry)
            if entry.ever_committed or entry.attempt:
                self.endings.give_up(entry, reason)
            else:
                self.endings.reject(entry.request, entry.attempt, reason)
        elif placed.standing is Standing.HELD:
            self.endings.hold(entry, reason)
        else:
            self._deferred.add(entry.id)
            self.endings.wait(entry, reason)

    def _resume(self) -> None:
        """Go on with what a crash cut short: a commit to its end, an attempt from its beginning with the same seeds."""
        body = self.state.attempt()
        if body is None:
            return
        ids: list[str] = list(body["requests"])  # type: ignore[call-overload]
        logger.info("requests %s: going on where the server stopped", ", ".join(ids))
        if "committing" in body:
            self.endings.finish_commit(body)
            return
        entries = tuple(self.ledger.entry(name) for name in ids)
        number, stronger = int(str(body["number"])), int(str(body["stronger"]))
        self._serve(Batch(entries, number, str(body["method"]), stronger))

    # ------------------------------------------------------------------ one attempt

    def _serve(self, batch: Batch) -> None:
        started = time.perf_counter()
        self.rounds.grid.take_traffic()
        order = self._begin(batch)
        if order is None:
            return
        put_back = self.keep_inner_state()
        attempt = self.new_attempt(order, lambda text: self.endings.tell("request-step", order.requests[0], text))
        memories = {name: RequestMemory.load(self.state, name) for name in order.ids}
        judgement: Judgement | None = None
        audit: Audit | None = None
        decisions: dict[str, Decision] = {}
        blameless: set[str] = set()
        try:
            attempt.unlearn()
            self.measuring.note_before(attempt, memories)
            judgement, audit = self._mend(attempt, memories)
            decisions = judgement.not_accepted
        except RequestRejectedError:
            pass
        except (HoldersAwayError, NobodyAnsweredError) as error:
            put_back()
            self._account(attempt, memories, started)
            waiting = error.requests if isinstance(error, HoldersAwayError) else order.ids
            self._deferred.update(waiting)
            self.endings.give_way(attempt, memories, waiting, str(error))
            return
        except AttemptFailedError as error:
            unfit = isinstance(error, MethodUnfitError)
            named = error.requests if isinstance(error, HoldersFailedError) else _ids(attempt)
            blameless = set(_ids(attempt)) - set(named)
            decisions = {
                name: self._judge.after_failure(attempt, str(error), self._methods_left(name), unfit=unfit)
                for name in _ids(attempt)
            }
        self._account(attempt, memories, started)
        accepted = audit if judgement is not None and judgement.accepted else None
        if accepted is None:
            put_back()
        split = judgement is not None and judgement.lost_too_much and len(decisions) > 1
        self.endings.conclude(attempt, accepted, decisions, memories, split=split, blameless=blameless)

    def _begin(self, batch: Batch) -> Order | None:
        """Write down what is tried before it is, with all that it depends on; None where all of it was withdrawn."""
        before = self.state.attempt() or {}
        with self.ledger.transaction():
            is_open = [self.ledger.entry(entry.id).status is not Status.WITHDRAWN for entry in batch.entries]
            entries = tuple(entry for entry, kept in zip(batch.entries, is_open, strict=True) if kept)
            if not entries:
                return None
            order = self._order(replace(batch, entries=entries))
            if "number" not in before:
                body = {"requests": list(order.ids), "number": order.number, "method": order.method}
                self.state.save_attempt({**body, "stronger": order.stronger})
                self.state.save_served(self.served)
                self.state.save_inner()
            self.ledger.advance_all(order.ids, Status.UNLEARNING, attempt=order.number, method=order.method)
        for entry in entries:
            self._announce(entry)
            if isinstance(entry.request.scope, ClientScope):
                self.rounds.grid.roster.leaving.add(entry.request.scope.client)
        return order

    def _order(self, batch: Batch) -> Order:
        requests = batch.requests
        absent = self.served.audit.absent_classes if self.served.audit is not None else frozenset[int]()
        excluded = self.ledger.forgotten_classes().union(absent, *(classes_of(request) for request in requests))
        return Order(
            requests=requests,
            number=batch.number,
            method=batch.method,
            parameters=self.plan.parameters_of(requests[0], batch.method),
            stronger=batch.stronger,
            excluded_classes=tuple(sorted(excluded)),
        )

    def _mend(self, attempt: Attempt, memories: Memories) -> tuple[Judgement, Audit]:
        """Repair until the gate accepts or gives the attempt up."""
        planned = {"class": self.plan.repair_rounds, "sample": self.plan.alternations}.get(attempt.order.scope, 0)
        if planned and attempt.repairs_by_plan:
            self.measuring.note_unlearned(attempt, memories, self._audit(attempt))
            for _ in range(planned):
                self._repair(attempt)
        while True:
            self.ledger.advance_all(_ids(attempt), Status.AUDITING, attempt=attempt.order.number)
            audit = self._audit(attempt)
            self.measuring.note_unlearned(attempt, memories, audit)
            left = {name: self._methods_left(name) for name in _ids(attempt)}
            judgement = self._judge.judge(attempt, audit, self.ledger.forgotten_classes(), left)
            for name, decision in judgement.decisions.items():
                logger.info("request %s: %s: %s", name, decision.verdict.value, decision.reason or "all met")
            if not judgement.repairs:
                self.measuring.note_after(attempt, memories, audit)
                return judgement, audit
            reasons = "; ".join(dict.fromkeys(item.reason for item in judgement.decisions.values() if item.reason))
            self.endings.tell("request-step", attempt.order.requests[0], f"repair more: {reasons}")
            self._repair(attempt)

    def _repair(self, attempt: Attempt) -> None:
        self.ledger.advance_all(_ids(attempt), Status.REPAIRING, attempt=attempt.order.number)
        attempt.repair()

    def _audit(self, attempt: Attempt) -> Audit:
        self.endings.tell("audit", attempt.order.requests[0], "audit of the candidate")
        audit = self.measuring.audit(attempt)
        attempt.check_audited(audit.replies, audit.failed, audit.silent)
        return audit

    # ------------------------------------------------------------------ small things

    @property
    def _judge(self) -> Judge:
        return Judge(self.gate, self.plan)

    def _scheduler(self) -> Scheduler:
        return Scheduler(self.ledger, self.state, self.plan, self.rounds.grid.roster)

    def _methods_left(self, name: str) -> int:
        return self._scheduler().methods_left(self.ledger.entry(name))

    def _account(self, attempt: Attempt, memories: Memories, started: float) -> None:
        """Divide time and traffic of an attempt among its requests."""
        parts = self.rounds.grid.take_traffic().divided(len(memories))
        seconds = (time.perf_counter() - started) / len(memories)
        for memory, part in zip(memories.values(), parts, strict=True):
            memory.traffic.add(part)
            memory.seconds += seconds
            memory.repair_rounds = attempt.repair_rounds

    def _announce(self, entry: LedgerEntry) -> None:
        request = entry.request
        self.endings.tell("request-started", request, f"{request.scope.kind} request {request.target()}")


def _ids(attempt: Attempt) -> list[str]:
    return [request.id for request in attempt.requests]
