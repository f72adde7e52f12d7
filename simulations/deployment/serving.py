"""A server that stays, supervised: Flower runs its app, and runs it again where the run failed."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from fed_unlearn.errors import FedUnlearnError, InvalidParameterError
from fed_unlearn.ledger import Ledger
from fed_unlearn.locks import who_works_on, worker_on
from fed_unlearn.simulations.engines.app_run import AppRun, follow_run
from fed_unlearn.simulations.engines.commands import FlowerCommands, script
from fed_unlearn.simulations.engines.errors import EngineError, NoAnswerError
from fed_unlearn.simulations.engines.processes import interrupts_afterwards, without_interrupts
from fed_unlearn.strategies.staying.live_status import read_live_status
from fed_unlearn.strategies.staying.present import is_said_by
from fed_unlearn.strategies.staying.stopping import order_stop

_FIRST_WAIT, _LONGEST_WAIT, _STEADY_SECONDS = 1.0, 60.0, 60.0
_MOST_FAILURES = 5
_STOP_SECONDS, _SAY_SECONDS, _POLL_SECONDS = 120.0, 3.0, 0.5
_NO_SERVER = "process {process} works on {ledger}, and is no server that stays; wait for its end, or end it"
_COMPLETED, _STOPPED = "finished:completed", "finished:stopped"


@dataclass
class SupervisedServer:
    """Has Flower run an app until it stops in order.

    Attributes
    ----------
    commands : FlowerCommands
        The ``flwr`` command.
    app : Path
        The folder of the app's ``pyproject.toml``.
    settings : mapping
        Values that override the app's ``[tool.flwr.app.config]``.
    ledger : Path or None
        The ledger of its server. An interrupt is passed on as an order to stop there; without it the run is stopped.
    ledger_key : Path or None
        The file of the ledger's key, if it is not beside the ledger.
    say : callable
        Called with lines of the run, and of the supervision.
    """

    commands: FlowerCommands
    app: Path
    settings: Mapping[str, object]
    ledger: Path | None
    ledger_key: Path | None
    say: Callable[[str], None]
    _failures: int = field(default=0, init=False)
    _run_id: str | None = field(default=None, init=False)
    _over: str | None = field(default=None, init=False)

    def run(self) -> AppRun:
        """Run the app, and run it again while it fails.

        Returns
        -------
        AppRun
            The run that ended in order, or was stopped.

        Raises
        ------
        InvalidParameterError
            If the SuperLink does not take the app or its settings.
        EngineError
            If it failed several times in a row, each time within a minute; or if it was to be stopped, and nobody
            knows whether it was.
        KeyboardInterrupt
            On an interrupt while nothing runs.
        """
        script("flwr")
        try:
            self._run_id = self._running()
            return self._supervised()
        except KeyboardInterrupt:
            with without_interrupts(signal.SIGINT, signal.SIGTERM):
                if self._run_id is None:
                    raise
                return self._stopped(self._run_id)

    def _supervised(self) -> AppRun:
        while True:
            started = time.monotonic()
            try:
                run = follow_run(self.commands, self._present_run(), on_line=self.say)
            except EngineError as error:  # the SuperLink is away, or does not know the run
                if self._run_id is not None and self._is_away():
                    self._wait_for_superlink(str(error))
                    continue
                self._leave_unknown_run()
                self._wait_after(str(error), started)
                continue
            if run.status in (_COMPLETED, _STOPPED):
                return run
            self._leave_run()
            self._wait_after(f"run {run.run_id} ended {run.status}: {run.error_line}", started)

    def _present_run(self) -> str:
        """The run that is followed; a new one where there is none."""
        if self._run_id is None and self._failures:  # one that was thought to have failed may serve after all
            self._run_id = self._serving_run()
        if self._run_id is None:
            self._run_id = self._started()
            self.say(f"run {self._run_id} started")
        return self._run_id

    def _started(self) -> str:
        """Start a run. A SuperLink that answers and refuses it twice does not take the app."""
        try:
            return self._start()
        except NoAnswerError:
            raise
        except EngineError as error:
            self.commands.check_superlink()
            first = str(error)
        try:
            return self._start()
        except EngineError as error:
            if str(error) != first:
                raise
            self.commands.check_superlink()
            raise InvalidParameterError(f"the app {self.app} was not taken: {error}") from error

    def _start(self) -> str:
        with interrupts_afterwards(signal.SIGINT, signal.SIGTERM):
            self._run_id = self.commands.start_run(self.app, self.settings)
        return self._run_id

    def _is_away(self) -> bool:
        try:
            self.commands.check_superlink()
        except EngineError:
            return True
        return False

    def _wait_for_superlink(self, problem: str) -> None:
        """Wait until the SuperLink answers again, however long that takes; its run goes on, or is run again."""
        self.say(f"{problem}; the SuperLink is waited for")
        wait = _FIRST_WAIT
        while self._is_away():
            time.sleep(wait)
            wait = min(_LONGEST_WAIT, 2 * wait)
        self.say("the SuperLink answers again")

    def _leave_run(self) -> None:
        self._over, self._run_id = self._run_id, None

    def _leave_unknown_run(self) -> None:
        """Follow a run no longer that the SuperLink does not know, as after the loss of its database."""
        with suppress(EngineError):  # it is away, and may know the run when it is back
            if self._run_id is not None and not self.commands.knows_run(self._run_id):
                self.say(f"the SuperLink does not know run {self._run_id}")
                self._leave_run()

    def _running(self) -> str | None:
        """The run of a server that works on the ledger already; None if there is none."""
        deadline = time.monotonic() + _SAY_SECONDS
        while (run_id := self._serving_run()) is None:
            process = None if self.ledger is None else who_works_on(self.ledger)
            if process is None:
                return None
            if time.monotonic() > deadline:
                raise FedUnlearnError(_NO_SERVER.format(process=process, ledger=self.ledger))
            time.sleep(_POLL_SECONDS)
        return run_id

    def _serving_run(self) -> str | None:
        """The run of the server that works on the ledger, as it says itself; not one that is over."""
        if self.ledger is None:
            return None
        worker, live = worker_on(self.ledger), read_live_status(self.ledger)
        if live is None or not live.run or str(live.run) == self._over or not is_said_by(worker, live):
            return None
        self.say(f"run {live.run} serves already; it is followed")
        return str(live.run)

    def _stopped(self, run_id: str) -> AppRun:
        """Stop a run in order, or by Flower where that does not end it."""
        is_in_order = False
        if self.ledger is not None and who_works_on(self.ledger) is not None:
            self.say("stopping in order")
            try:
                stop_server(self.ledger, self.ledger_key, _STOP_SECONDS)
                is_in_order = True
            except FedUnlearnError as error:
                self.say(f"{error}; it is stopped by Flower")
        if not is_in_order:
            with suppress(EngineError):
                self.commands.stop_run(run_id)
        try:
            return AppRun(run_id, self.commands.final_status(run_id), ())
        except EngineError as error:
            end = "its server has stopped in order" if is_in_order else f"it may go on: flwr stop {run_id}"
            raise EngineError(f"run {run_id}: {end}; {error}") from error

    def _wait_after(self, problem: str, started: float) -> None:
        self._failures = 1 if time.monotonic() - started > _STEADY_SECONDS else self._failures + 1
        if self._failures > _MOST_FAILURES:
            raise EngineError(f"{problem}; this was failure {self._failures} in a row: mend it and serve again")
        wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** (self._failures - 1))
        self.say(f"{problem}; it is run again in {wait:.0f} s")
        time.sleep(wait)


def stop_server(ledger: Path, key: Path | None, seconds: float) -> None:
    """Order the server that works on a ledger to stop, and wait for its end.

    Parameters
    ----------
    ledger : Path
        The ledger's file.
    key : Path or None
        The file of its key, if it is not beside the ledger.
    seconds : float
        Seconds to wait for the end.

    Raises
    ------
    FedUnlearnError
        If no server that stays works on the ledger, or it has not stopped in time.
    """
    worker = worker_on(ledger)
    if worker is None:
        raise FedUnlearnError(f"no server works on {ledger}; there is nothing to stop")
    deadline = time.monotonic() + _SAY_SECONDS
    while (live := read_live_status(ledger)) is None or live.process != worker.process:
        if time.monotonic() > deadline:
            raise FedUnlearnError(_NO_SERVER.format(process=worker.process, ledger=ledger))
        time.sleep(_POLL_SECONDS)
    with closing(Ledger(ledger, create=False, key=key)) as opened:
        order_stop(opened)
    deadline = time.monotonic() + seconds
    while worker_on(ledger) == worker:
        if time.monotonic() > deadline:
            raise FedUnlearnError(
                f"process {worker.process} still works on {ledger} {seconds:.0f} s after the order to stop; it stops at"
                " the next message, or end it: nothing is lost"
            )
        time.sleep(_POLL_SECONDS)
