"""A server that stays: one session with its clients, which serves whatever comes until it is told to stop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace

from flwr.app import ArrayRecord
from flwr.serverapp import Grid

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.locks import ledger_lock
from fed_unlearn.plan import ServeSettings
from fed_unlearn.strategies.clients.grid import EligibleGrid
from fed_unlearn.strategies.clients.messages.exchange import ClientsFailedError, NobodyAnsweredError
from fed_unlearn.strategies.clients.messages.runtime import NobodyThereError
from fed_unlearn.strategies.context import Event
from fed_unlearn.strategies.outcomes import UnlearningResult
from fed_unlearn.strategies.staying.live_status import LiveStatus, StatusWriter
from fed_unlearn.strategies.staying.metrics import metrics_endpoint
from fed_unlearn.strategies.staying.orphans import end_with_superlink, superlink_is_gone
from fed_unlearn.strategies.staying.stopping import StopOrder, StopOrderedError
from fed_unlearn.strategies.staying.wakeups import Alarm, Backoff, Sleep, Wakeup
from fed_unlearn.strategies.timeline import Forget, Train, due_part, next_due
from fed_unlearn.strategies.timeline_run import Runner, TimelineRun
from fed_unlearn.strategies.training.trainer import EvaluateFunction

logger = logging.getLogger("fed_unlearn.strategies")

_PASSING = (NobodyThereError, NobodyAnsweredError, ClientsFailedError)
"""What a later turn may do better: clients that are away or fail."""

_RELAPSE_ROWS = 100  # the ledger has all of them, and each has all committed requests


@dataclass
class StayingServer:
    """Takes a turn whenever there is something to do, and sleeps in between.

    Attributes
    ----------
    runner : Runner
        The strategy.
    grid : EligibleGrid
        The clients. They are asked once who they are, as long as the server stays.
    runtime : Grid
        The runtime's own grid.
    timeline : sequence of Train or Forget
    initial_arrays : ArrayRecord or None
    timeout : float
    evaluate_fn : callable or None
    on_entry : callable or None
        Called with the index and the result of each entry that was run here.
    on_turn : callable or None
        Called with the result of each turn.
    settings : ServeSettings
    min_nodes : int
        Number of nodes that training waits for.
    """

    runner: Runner
    grid: EligibleGrid
    runtime: Grid
    timeline: Sequence[Train | Forget]
    initial_arrays: ArrayRecord | None
    timeout: float
    evaluate_fn: EvaluateFunction | None
    on_entry: Callable[[int, UnlearningResult], None] | None
    on_turn: Callable[[UnlearningResult], None] | None
    settings: ServeSettings
    min_nodes: int
    _whole: UnlearningResult = field(default_factory=UnlearningResult, init=False)

    def run(self) -> UnlearningResult:
        """Serve until the order to stop.

        Returns
        -------
        UnlearningResult
            What all turns gave; its arrays are the last accepted model.

        Raises
        ------
        FedUnlearnError
            If the ledger or the disk cannot be used, another process works on the ledger, or there is no model; and
            where Flower ends this process because its SuperLink has ended, so that the run counts as failed and is run
            again.
        """
        end_with_superlink()
        ledger = self.runner.ledger
        self._stop = StopOrder(ledger)
        self._status = StatusWriter(ledger.path, LiveStatus.of_this_process(self.runtime.run.run_id, "starts"))
        self._sleep = Sleep(ledger, self.runtime, self.settings, self._stop, self._status.beat)
        self._backoff = Backoff(self.settings.retry_seconds)
        self._asked = time.time()  # a client that is identified says what its owner wants
        with ExitStack() as stack:
            stack.enter_context(ledger_lock(ledger.path))
            stack.enter_context(metrics_endpoint(self._status, ledger, self.settings.metrics_port))
            stack.enter_context(self._stop.from_signals())
            stack.enter_context(self.grid.staying(self._obey))
            stack.enter_context(self._watched())
            stack.callback(self._say_end)
            self._status.write()
            self.runner.announce(self.timeline)
            with suppress(StopOrderedError):
                self._serve()
        if self._stop.is_by_signal and superlink_is_gone():
            raise FedUnlearnError("the SuperLink is gone, and nobody ordered a stop; run the app again, it goes on")
        return self._whole

    def _serve(self) -> None:
        logger.info("the server stays; it is stopped by: fed-unlearn serve --stop %s", self.runner.ledger.path)
        why = Wakeup.CLOCK
        while why is not Wakeup.STOP:
            alarm, now = Alarm(), time.time()
            self._sleep.note()
            missing, connected = self._missing_nodes()
            if not connected or (missing and not self.runner.state.experiences()):
                self._status.say(f"waits for {missing or 1} more nodes")
            else:
                alarm.set_to_first([self._turn(missing), next_due(self.timeline, now)])
                self._show_clients()
                self._status.say("sleeps" if self._status.status.problem is None else "waits to try again")
            self._status.become(replace(self._status.status, wakes_at=alarm.at if math.isfinite(alarm.at) else None))
            why = self._sleep.until(alarm)

    def _obey(self) -> None:
        """Called while clients are waited for."""
        self._status.beat()
        self._stop.obey()

    def _turn(self, missing: int) -> float:
        """Do all that can be done now.

        Parameters
        ----------
        missing : int
            Number of nodes that are missing for the training that is due. It waits for them, and all else is done.

        Returns
        -------
        float
            Time of the next turn, in seconds since the epoch.
        """
        problem = f"a training is due and waits for {missing} more nodes" if missing else None
        failed = False
        try:
            result = self._steps(trains=not missing)
        except _PASSING as error:
            problem, failed = str(error), True
            logger.warning("%s; the server tries again", error)
        else:
            self._whole.include(result)
            del self._whole.relapse[:-_RELAPSE_ROWS]
            if self.on_turn is not None:
                self.on_turn(result)
        self._status.become(replace(self._status.status, problem=problem))
        next_ask = self._asked + self.settings.owner_seconds
        if failed:  # owners are asked with the next try, too
            return time.time() + self._backoff.pause()
        if self._waits():
            return min(next_ask, time.time() + self._backoff.pause())
        self._backoff.reset()
        return next_ask

    def _steps(self, *, trains: bool) -> UnlearningResult:
        """Run what is due of the timeline, and then whatever else there is."""
        if time.time() >= self._asked + self.settings.owner_seconds:
            self._asked, self.grid.owners.ask_due = time.time(), True
        whole = self._due().run(self.on_entry) if trains else UnlearningResult()
        whole.include(self.runner.start(self.grid, self.initial_arrays, 0, self.timeout))
        return whole

    def _due(self) -> TimelineRun:
        """What is due of the timeline now."""
        due = due_part(self.timeline, time.time())
        return TimelineRun(self.runner, self.grid, due, self.initial_arrays, self.timeout, self.evaluate_fn)

    def _missing_nodes(self) -> tuple[int, int]:
        """How many nodes are missing for the training that is due, 0 where none is, and how many are connected.

        Clients that have left are not waited for, and a training that has begun goes on with whom it has.
        """
        connected = len(set(self.runtime.get_node_ids()))
        runner = self.runner
        if runner.state.load_training() is not None or not self._due().trains_next():
            return 0, connected
        return max(0, self.min_nodes - len(runner.ledger.departed()) - connected), connected

    def _waits(self) -> bool:
        """Whether some request waits for a client, or a training is open."""
        pending = self.runner.ledger.pending()
        return any(entry.status is not Status.HELD for entry in pending) or (
            self.runner.state.load_training() is not None
        )

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Have the status follow what the strategy tells its observer."""
        observer = self.runner.observer

        def watch(event: Event) -> None:
            self._observe(event)
            if observer is not None:
                observer(event)

        self.runner.observer = watch
        try:
            yield
        finally:
            self.runner.observer = observer

    def _observe(self, event: Event) -> None:
        who = f"{event.request_id}: " if event.request_id else ""
        self._show_clients()
        self._status.say(f"{who}{event.text}")

    def _show_clients(self) -> None:
        status, (connected, left_out) = self._status.status, self.grid.attendance()
        sent = self.grid.messages_sent
        self._status.become(replace(status, connected=connected, left_out=left_out, messages=sent))

    def _say_end(self) -> None:
        reason = self._stop.reason
        self._status.say("stopped" if reason is None else f"stopped: {reason}")
        self._status.write()
        logger.info("the server has stopped%s", "" if reason is None else f": {reason}")
