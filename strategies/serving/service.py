"""Serving forget requests: unlearn, repair, audit, gate, and then commit or roll back."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace

from fed_unlearn.audits.pooled import classes_of
from fed_unlearn.errors import TransitionError
from fed_unlearn.gate import Decision
from fed_unlearn.ledger import LedgerEntry
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ClientScope
from fed_unlearn.strategies.clients.messages.exchange import ClientsFailedError, NobodyAnsweredError
from fed_unlearn.strategies.context import CallContext
from fed_unlearn.strategies.inner.rollback import StrategyBefore
from fed_unlearn.strategies.serving.attempts.attempt import Attempt
from fed_unlearn.strategies.serving.attempts.failures import (
    AttemptFailedError,
    HoldersAwayError,
    HoldersFailedError,
    RequestRejectedError,
)
from fed_unlearn.strategies.serving.attempts.kinds import attempt_at
from fed_unlearn.strategies.serving.attempts.order import Order
from fed_unlearn.strategies.serving.attempts.server_attempt import MethodUnfitError
from fed_unlearn.strategies.serving.attendance import Presence, Tombstones, Withdrawals, leaving_clients
from fed_unlearn.strategies.serving.commit import Conclusion, RequestClosing
from fed_unlearn.strategies.serving.judge import Judge, Progress, note_before
from fed_unlearn.strategies.serving.mending import Mending
from fed_unlearn.strategies.serving.owner_requests import OwnerRequests
from fed_unlearn.strategies.serving.relapse import RelapseWatch
from fed_unlearn.strategies.serving.schedule import Batch, PlacedRequest, Placement, Scheduler
from fed_unlearn.strategies.state import OpenAttempt, OpenCommit

logger = logging.getLogger("fed_unlearn.strategies")


@dataclass
class RequestService:
    """Serves what is pending, on behalf of a strategy.

    Attributes
    ----------
    context : CallContext
        What the call works with.
    watch : RelapseWatch
        Looks at all committed requests.
    """

    context: CallContext
    watch: RelapseWatch = field(init=False)
    _deferred: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self.watch = RelapseWatch(self.context)
        self._presence = Presence(self.context)
        self._closing = RequestClosing(self.context, self.watch)
        self._withdrawals = Withdrawals(self.context)
        self._owners = OwnerRequests(self.context)
        self._judge = Judge(self.context.gate, self.context.plan)

    def identify_clients(self) -> None:
        """Wait for as many nodes as the wrapped strategy asks for, and learn who is there.

        Raises
        ------
        NobodyThereError
            If no node can say which client it is, and none ever could.
        """
        roster = self.context.grid.roster
        roster.leaving = leaving_clients(self.context.ledger)
        roster.max_share = self.context.plan.max_client_share
        roster.committed = tuple(entry.request for entry in self.context.ledger.committed())
        self._presence.identify(self.context.kind.min_available_nodes)

    def serve_pending(self) -> None:
        """Take every pending request as far as it goes now; raise where clients are there and none can be audited."""
        self._deferred.clear()
        self.refresh()
        if self._withdrawals.tell():
            self.refresh()
        self._resume()
        while (batch := self._next_batch()) is not None:
            self._serve(batch)
            self.context.issue_receipts()
        self.context.issue_receipts()
        self._owners.deliver()

    def has_work(self) -> bool:
        """Whether there is something that can be done now; clients that have come back take part from here on."""
        self._owners.collect()
        entries = [entry for entry in self.context.ledger.pending() if entry.status is not Status.HELD]
        waits = all(entry.status is Status.WAITING for entry in entries)
        if self.context.grid.has_new_nodes() or (entries and waits):
            self.refresh()
        if waits:
            scheduler, connected = self._scheduler(), self.context.grid.connected()
            placed = [scheduler.place(entry, connected) for entry in entries]
            entries = [item.entry for item in placed if item.placement is not Placement.WAITS]
        return bool(entries) or self._withdrawals.has_work()

    def refresh(self) -> None:
        """Look for clients that have come, make up for looks that are due, and have clients write what they owe."""
        self._presence.refresh()
        self.watch.catch_up()
        settled = Tombstones(self.context).settle_debts()
        self.watch.look_at_once([f"tombstones:{client}" for client in settled], may_reopen=True)

    # ------------------------------------------------------------------ what comes next

    def _next_batch(self) -> Batch | None:
        self._owners.collect()
        scheduler, connected = self._scheduler(), self.context.grid.connected()
        ready: list[LedgerEntry] = []
        for entry in self.context.ledger.pending():
            if entry.id in self._deferred or entry.status is Status.HELD:
                continue
            if (placed := scheduler.place(entry, connected)).placement is Placement.READY:
                ready.append(entry)
                continue
            try:
                self._set_aside(placed)
            except TransitionError:
                if self.context.ledger.entry(entry.id).status is not Status.WITHDRAWN:
                    raise
        return scheduler.batch(ready) if ready else None

    def _set_aside(self, placed: PlacedRequest) -> None:
        entry, reason = placed.entry, placed.reason or ""
        if placed.placement is Placement.IMPOSSIBLE:
            self._announce(entry)
            if entry.ever_committed or entry.attempt:
                self._closing.give_up(entry, reason)
            else:
                self._closing.reject(entry, reason)
        elif placed.placement is Placement.HELD:
            self._closing.hold(entry, reason)
        else:
            self._deferred.add(entry.id)
            self._closing.wait(entry, reason)

    def _resume(self) -> None:
        """Go on with what a crash cut short: a commit to its end, an attempt from its beginning with the same seeds."""
        work = self.context.state.open_work()
        if work is None:
            return
        logger.info("requests %s: going on where the server stopped", ", ".join(work.requests))
        if isinstance(work, OpenCommit):
            self._closing.finish_commit()
            return
        entries = tuple(self.context.ledger.entry(name) for name in work.requests)
        self._serve(Batch(entries, work.number, work.method, work.stronger))

    # ------------------------------------------------------------------ one attempt

    def _serve(self, batch: Batch) -> None:
        started, context = time.perf_counter(), self.context
        context.grid.take_traffic()
        order = self._begin(batch)
        if order is None:
            return
        before = StrategyBefore(context.inner, whole=not context.kind.trusts_clients)
        attempt = attempt_at(context, order)
        progress = {name: context.state.progress(name) for name in order.ids}
        for request in order.requests:
            progress[request.id].goal = self._judge.goal_of(request)
        conclusion = Conclusion()
        try:
            with context.grid.attempting(order.requests, order.number):
                attempt.unlearn()
                note_before(attempt, progress)
                conclusion = Mending(self._judge, self._methods_left).mend(attempt, progress)
        except RequestRejectedError:
            pass
        except (HoldersAwayError, NobodyAnsweredError) as error:
            before.put_back()
            self._account(attempt, progress, started)
            waiting = error.requests if isinstance(error, HoldersAwayError) else order.ids
            self._deferred.update(waiting)
            self._closing.give_way(attempt, progress, waiting, str(error))
            if isinstance(error, NobodyAnsweredError) and error.failed:
                what = f"requests {', '.join(order.ids)} wait: no client could be audited"
                raise ClientsFailedError.of(what, error.failed) from error
            return
        except AttemptFailedError as error:
            conclusion = self._after_failure(attempt, error)
        self._account(attempt, progress, started)
        if conclusion.accepted is None:
            before.put_back()
        self._closing.conclude(attempt, conclusion, progress)

    def _begin(self, batch: Batch) -> Order | None:
        """Write down what is tried before it is, with all that it depends on; None where all of it was withdrawn."""
        ledger, state = self.context.ledger, self.context.state
        with ledger.transaction():
            is_open = [ledger.entry(entry.id).status is not Status.WITHDRAWN for entry in batch.entries]
            entries = tuple(entry for entry, kept in zip(batch.entries, is_open, strict=True) if kept)
            if not entries:
                return None
            order = self._order(replace(batch, entries=entries))
            if not isinstance(state.open_work(), OpenAttempt):
                state.save_open_work(
                    OpenAttempt(requests=order.ids, number=order.number, method=order.method, stronger=order.stronger)
                )
                state.save_served(self.context.served)
                state.save_inner()
            method = attempt_at(self.context, order).method_name
            ledger.advance_all(order.ids, Status.UNLEARNING, attempt=order.number, method=method)
        for entry in entries:
            self._announce(entry)
            if isinstance(entry.request.scope, ClientScope):
                self.context.grid.roster.leaving.add(entry.request.scope.client)
        return order

    def _order(self, batch: Batch) -> Order:
        requests, served = batch.requests, self.context.served
        absent = served.audit.absent_classes if served.audit is not None else frozenset[int]()
        forgotten = self.context.ledger.forgotten_classes()
        return Order(
            requests=requests,
            number=batch.number,
            method=batch.method,
            parameters=self.context.plan.parameters_of(requests[0], batch.method),
            stronger=batch.stronger,
            excluded_classes=tuple(sorted(forgotten.union(absent, *map(classes_of, requests)))),
        )

    def _after_failure(self, attempt: Attempt, error: AttemptFailedError) -> Conclusion:
        """What follows an attempt that came to no candidate."""
        ids = [request.id for request in attempt.requests]
        failed = error.requests if isinstance(error, HoldersFailedError) else ids
        unfit = isinstance(error, MethodUnfitError)
        decisions: dict[str, Decision] = {
            name: self._judge.after_failure(attempt, str(error), self._methods_left(name), unfit=unfit) for name in ids
        }
        return Conclusion(decisions=decisions, blameless=set(ids) - set(failed))

    # ------------------------------------------------------------------ small things

    def _scheduler(self) -> Scheduler:
        return Scheduler(self.context)

    def _methods_left(self, name: str) -> int:
        return self._scheduler().methods_left(self.context.ledger.entry(name))

    def _account(self, attempt: Attempt, progress: Progress, started: float) -> None:
        """Divide time and traffic of an attempt among its requests."""
        parts = self.context.grid.take_traffic().divided(len(progress))
        seconds = (attempt.seconds_before + time.perf_counter() - started) / len(progress)
        for known, part in zip(progress.values(), parts, strict=True):
            known.traffic.add(part)
            known.seconds += seconds
            known.repair_rounds = attempt.repair_rounds

    def _announce(self, entry: LedgerEntry) -> None:
        request = entry.request
        self.context.tell("request-started", f"{request.scope.kind} request: {self.context.words(request)}", request)
