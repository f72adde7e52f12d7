"""Ctrl-C during a run in this process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fed_unlearn.strategies import Event, Observer


@contextmanager
def never_missing_an_interrupt(observer: Observer) -> Iterator[Observer]:
    """Make an observer that raises KeyboardInterrupt once more if other code, such as a destructor, swallowed it."""
    if threading.current_thread() is not threading.main_thread():
        yield observer
        return
    interrupted = False

    def interrupt(*_: object) -> None:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    def watching(event: Event) -> None:
        if interrupted:
            raise KeyboardInterrupt
        observer(event)

    previous = signal.signal(signal.SIGINT, interrupt)
    try:
        yield watching
    finally:
        signal.signal(signal.SIGINT, previous)
