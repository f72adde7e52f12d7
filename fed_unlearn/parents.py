"""Processes that end with the process that started them, however that one went."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

_POLL_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1


def when_orphaned(parent: int, then: Callable[[], None]) -> None:
    """Watch the parent process from a thread, and call a function once it is gone.

    Parameters
    ----------
    parent : int
        The process id of the parent. A process whose parent has ended is given another.
    then : callable
        What ends this process, or asks it to end. It is called in the thread.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_SECONDS)
        then()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def end_with(parent: int) -> None:
    """See that this process is killed as soon as its parent is gone, so that nothing is written beside a successor.

    Linux does it at once (``PR_SET_PDEATHSIG``). Elsewhere a thread looks twice a second.

    Parameters
    ----------
    parent : int
        The process id of the parent. Where it is gone already, this process ends here.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    def kill() -> None:
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))

    if os.getppid() != parent:
        kill()
    when_orphaned(parent, kill)
