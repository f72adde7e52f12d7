"""A server that stays, supervised: Flower runs its app, and runs it again where the run failed."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.ledger import Ledger
from fed_unlearn.locks import who_works_on
from fed_unlearn.simulations.engines.app_run import AppRun, follow_run
from fed_unlearn.simulations.engines.commands import FlowerCommands
from fed_unlearn.simulations.engines.errors import EngineError
from fed_unlearn.simulations.engines.processes import without_interrupts
from fed_unlearn.strategies.staying.live_status import read_live_status
from fed_unlearn.strategies.staying.stopping import order_stop

_FIRST_WAIT, _LONGEST_WAIT, _STEADY_SECONDS = 1.0, 60.0, 60.0
_MOST_FAILURES = 5
_STOP_SECONDS, _POLL_SECONDS = 120.0, 0.5
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
        Takes lines of the run, and of the supervision.
    """

    commands: FlowerCommands
    app: Path
    settings: Mapping[str, object]
    ledger: Path | None
    ledger_key: Path | None
    say: Callable[[str], None]
    _failures: int = field(default=0, init=False)

    def run(self) -> AppRun:
        """Run the app, and run it again while it fails.

        Returns
        -------
        AppRun
            The run that ended in order, or was stopped.

        Raises
        ------
        EngineError
            If it failed several times in a row, each time within a minute.
        """
        run_id = self._running()
        while True:
            started = time.monotonic()
            try:
                if run_id is None:
                    run_id = self.commands.start_run(self.app, self.settings)
                    self.say(f"run {run_id} started")
                run = self._followed(run_id)
            except EngineError as error:  # the SuperLink is away, or does not take the app
                self._wait_after(str(error), started)
                continue
            if run.status in (_COMPLETED, _STOPPED):
                return run
            self._wait_after(f"run {run_id} ended {run.status}: {run.error_line}", started)
            run_id = None

    def _running(self) -> str | None:
        """The run of a server that works on the ledger already; None if there is none."""
        if self.ledger is None or not self.ledger.exists():
            return None
        live, process = read_live_status(self.ledger), who_works_on(self.ledger)
        if process is None:
            return None
        if live is None or live.process != process or not live.run:
            raise FedUnlearnError(
                f"process {process} works on {self.ledger}, and is no server that stays; wait for its end, or end it"
            )
        self.say(f"run {live.run} serves already; it is followed")
        return str(live.run)

    def _followed(self, run_id: str) -> AppRun:
        """Follow a run to its end; pass an interrupt on."""
        try:
            return follow_run(self.commands, run_id, on_line=self.say)
        except KeyboardInterrupt:
            with without_interrupts(signal.SIGINT, signal.SIGTERM):
                return self._stopped(run_id)

    def _stopped(self, run_id: str) -> AppRun:
        """Stop a run in order, or by Flower where that does not end it."""
        if self.ledger is not None and who_works_on(self.ledger) is not None:
            self.say("stopping in order")
            stop_server(self.ledger, self.ledger_key, _STOP_SECONDS)
        else:
            with suppress(EngineError):
                self.commands.stop_run(run_id)
        return AppRun(run_id, self.commands.final_status(run_id), ())

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
        How long to wait.

    Raises
    ------
    FedUnlearnError
        If no server works on the ledger, or it has not stopped in time.
    """
    process = who_works_on(ledger)
    if process is None:
        raise FedUnlearnError(f"no server works on {ledger}; there is nothing to stop")
    with closing(Ledger(ledger, create=False, key=key)) as opened:
        order_stop(opened)
    deadline = time.monotonic() + seconds
    while who_works_on(ledger) == process:
        if time.monotonic() > deadline:
            raise FedUnlearnError(
                f"process {process} still works on {ledger} {seconds:.0f} s after the order to stop; it stops at the"
                " next message, or end it: nothing is lost"
            )
        time.sleep(_POLL_SECONDS)
