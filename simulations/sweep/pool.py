"""Commands side by side, each a process that ends with this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from fed_unlearn.checkpoints import make_private_file, make_private_folder
from fed_unlearn.simulations.engines.processes import interrupts_afterwards, without_interrupts

Name = TypeVar("Name")

WORKER = "fed_unlearn.simulations.cli.sweep_worker"
_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_POLL_SECONDS = 0.05
_PATIENCE_SECONDS = 20.0
"""How long an interrupted command may take to write down where it stands."""


@dataclass(frozen=True)
class Command(Generic[Name]):
    """One command of a pool.

    Attributes
    ----------
    name : Name
        What the pool's user knows it by.
    arguments : sequence of str
        Arguments of ``fed-unlearn``.
    log : Path
        The file that its output is added to.
    """

    name: Name
    arguments: Sequence[str]
    log: Path


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_commands(
    commands: Iterable[Command[Name]], at_once: int, on_end: Callable[[Command[Name], int, float], None]
) -> None:
    """Run commands in their order, so many at once, each on one thread.

    Parameters
    ----------
    commands : iterable of Command
        They are taken one by one, each as soon as there is room.
    at_once : int
        Number of processes, at least 1.
    on_end : callable
        Called with each command that ended, its exit code (the negative number of a signal) and its seconds.

    Raises
    ------
    KeyboardInterrupt
        On Ctrl-C, after all commands were interrupted and have ended. They are not told of.
    """
    waiting, running = iter(commands), dict[subprocess.Popen[bytes], tuple[Command[Name], float]]()
    is_empty = False
    try:
        while running or not is_empty:
            while not is_empty and len(running) < at_once:
                command = next(waiting, None)
                if command is None:
                    is_empty = True
                    break
                with interrupts_afterwards(signal.SIGINT, signal.SIGTERM):
                    running[_started(command)] = command, time.monotonic()
            for process in [process for process in running if process.poll() is not None]:
                command, begun = running.pop(process)
                on_end(command, process.returncode, time.monotonic() - begun)
            time.sleep(_POLL_SECONDS)
    finally:
        with without_interrupts(signal.SIGINT, signal.SIGTERM):
            _stop(list(running))


def _started(command: Command[Name]) -> subprocess.Popen[bytes]:
    """The process of a command, in a group of its own: Ctrl-C reaches it through this process alone."""
    make_private_folder(command.log.parent)
    make_private_file(command.log)
    with command.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", WORKER, str(os.getpid()), *command.arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_THREADS},
            process_group=0,
        )


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Interrupt processes, and kill those that do not end in time."""
    for process in processes:
        process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    for process in processes:
        try:
            process.wait(max(deadline - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
