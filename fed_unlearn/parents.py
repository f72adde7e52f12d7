"""Processes that end with the process that started them, however that one went."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

_POLL_SECONDS = 0.5


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
