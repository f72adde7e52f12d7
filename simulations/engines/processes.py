"""Processes that inherited a variable of the environment: what a run has started, and nothing else."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

_PROCESSES = Path("/proc")
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Marker:
    """A variable of the environment that only the processes of one run have.

    Attributes
    ----------
    name, value : str
        Name and value of the variable. No other process has this value.
    """

    name: str
    value: str

    def processes(self, started: Sequence[subprocess.Popen[bytes]]) -> list[int]:
        """The ids of the processes that inherited it. Without ``/proc`` they are those of ``started`` that live.

        Parameters
        ----------
        started : sequence of Popen
            The processes that were started with it by this one.
        """
        alive = [process.pid for process in started if process.poll() is None]
        if not _PROCESSES.is_dir():
            return alive
        wanted = f"{self.name}={self.value}".encode()
        found = []
        for entry in _PROCESSES.iterdir():
            if entry.name.isdecimal() and int(entry.name) != os.getpid():
                try:
                    inherited = wanted in (entry / "environ").read_bytes().split(b"\0")
                except OSError:
                    continue
                if inherited:
                    found.append(int(entry.name))
        return found

    def end(self, started: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
        """End all of its processes: first by SIGTERM, and those that are left after a while by SIGKILL."""
        self.wait_until_gone(started, seconds / 2)
        _signal_all(self.processes(started), signal.SIGTERM)
        self.wait_until_gone(started, seconds)
        _signal_all(self.processes(started), signal.SIGKILL)
        for process in started:
            process.kill()
            process.wait()

    def wait_until_gone(self, started: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
        """Wait until none of its processes is left, at most for so long."""
        deadline = time.monotonic() + seconds
        while self.processes(started) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def without_interrupts(*signals: int) -> Iterator[None]:
    """Ignore signals, such as that of Ctrl-C, while something is being stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in signals}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def interrupts_afterwards(*signals: int) -> Iterator[None]:
    """Put signals off to the end of the block, where the last of them does what it would have done inside.

    It is for a short step whose outcome must be known, such as the start of what is to be stopped.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    previous = {number: signal.signal(number, lambda number, _: came.append(number)) for number in signals}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[-1])


@contextlib.contextmanager
def ended_as_by_interrupt() -> Iterator[None]:
    """Take SIGTERM as Ctrl-C, so that what was started is stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _signal_all(process_ids: Sequence[int], number: int) -> None:
    for process_id in process_ids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process_id, number)
