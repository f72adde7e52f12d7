"""How a server that stays is told to stop: by a signal, or by an order in the ledger."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from fed_unlearn.ledger import Ledger
from fed_unlearn.locks import worker_on

logger = logging.getLogger("fed_unlearn.strategies")

_ORDER = "stop-ordered"


class StopOrderedError(Exception):
    """Ends what a server is doing. All of it is written down, and the next start goes on with it."""


def order_stop(ledger: Ledger) -> None:
    """Order the server that works on a ledger to stop. The order names it, and is no order to a later one."""
    ledger.set_state(_ORDER, _address(ledger) or True)


def is_stop_ordered(ledger: Ledger) -> bool:
    """Whether the server that works on a ledger was ordered to stop, and has not stopped yet."""
    return ledger.state(_ORDER) is not None


def _address(ledger: Ledger) -> list[int] | None:
    """What names the server that works on a ledger now, and no other before or after it."""
    worker = worker_on(ledger.path)
    return None if worker is None else [worker.process, worker.since]


@dataclass
class StopOrder:
    """Whether a server was ordered to stop.

    Attributes
    ----------
    ledger : Ledger
        Ledger to which :func:`order_stop` writes.
    reason : str or None
        What ordered it; None before.
    is_by_signal : bool
        Whether a signal did.
    """

    ledger: Ledger
    reason: str | None = None
    is_by_signal: bool = False
    _seen: int | None = field(default=None, init=False)

    def is_given(self) -> bool:
        """Whether the server is to stop. The ledger is read only where another process has written into it."""
        version = self.ledger.outside_version()
        if self.reason is None and version != self._seen:
            self._seen = version
            if is_stop_ordered(self.ledger):
                self.reason = "it was ordered in the ledger"
        return self.reason is not None

    def obey(self) -> None:
        """Raise StopOrderedError if the server is to stop."""
        if self.is_given():
            raise StopOrderedError(self.reason)

    @contextmanager
    def from_signals(self) -> Iterator[None]:
        """Take SIGTERM and SIGINT as the order, for the time of a ``with`` block in the main thread.

        A second signal does what it would have done without the block. An order that stands in the ledger at the
        beginning and names another server, or none, is an old one, and is taken out, as is the present one at the end.
        One that names this server came after it had taken the ledger's lock, and is obeyed.
        """
        self._take_out(but=_address(self.ledger))
        previous: dict[int, Any] = {}

        def order(number: int, frame: FrameType | None) -> None:
            self.reason, self.is_by_signal = f"the process got {signal.Signals(number).name}", True
            _restore(previous)

        is_main = threading.current_thread() is threading.main_thread()
        for number in (signal.SIGTERM, signal.SIGINT) if is_main else ():
            previous[number] = signal.signal(number, order)
        try:
            yield
        finally:
            _restore(previous)
            self._take_out()

    def _take_out(self, but: list[int] | None = None) -> None:
        if is_stop_ordered(self.ledger):
            with self.ledger.transaction():  # no order comes between the look and the deletion
                if but is None or self.ledger.state(_ORDER) != but:
                    self.ledger.set_state(_ORDER, None)


def _restore(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
