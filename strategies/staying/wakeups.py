"""What wakes a server that sleeps: the ledger, a node, or the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum

from flwr.serverapp import Grid

from fed_unlearn.ledger import Ledger
from fed_unlearn.plan import ServeSettings
from fed_unlearn.strategies.staying.stopping import StopOrder

_LONGEST_RETRY_SECONDS = 3600.0


class Wakeup(Enum):
    """Why a server woke."""

    LEDGER = "the ledger was written"
    NODES = "nodes came or left"
    CLOCK = "it is time"
    STOP = "it is to stop"


@dataclass
class Alarm:
    """A moment at which the server wakes.

    Attributes
    ----------
    at : float
        Seconds since the epoch; infinite where nothing is set.
    """

    at: float = float("inf")

    def set_to_first(self, moments: Iterable[float]) -> None:
        """Set it to the first of some moments, or to none."""
        self.at = min(moments, default=float("inf"))


@dataclass
class Backoff:
    """When something that failed is tried again.

    Attributes
    ----------
    seconds : float
        Waited before the first try; twice as long before every further one, up to an hour.
    """

    seconds: float
    _failures: int = field(default=0, init=False)

    def pause(self) -> float:
        """The seconds to wait after one more failure."""
        self._failures += 1
        return min(_LONGEST_RETRY_SECONDS, self.seconds * 2.0 ** min(self._failures - 1, 20))

    def reset(self) -> None:
        """Begin anew after a success."""
        self._failures = 0


@dataclass
class Sleep:
    """Sleeps until there is something.

    Attributes
    ----------
    ledger : Ledger
    grid : Grid
        Grid of the runtime.
    settings : ServeSettings
        Settings that say how often each is looked at.
    stop : StopOrder
    beat : callable
        Called at every look, so that others see that the server lives.
    """

    ledger: Ledger
    grid: Grid
    settings: ServeSettings
    stop: StopOrder
    beat: Callable[[], None]
    _version: int = field(default=-1, init=False)
    _nodes: frozenset[int] = field(default_factory=frozenset, init=False)

    def note(self) -> None:
        """Remember how things stand; whatever changes from here on wakes the server."""
        self._version = self.ledger.outside_version()
        self._nodes = frozenset(self.grid.get_node_ids())

    def until(self, alarm: Alarm) -> Wakeup:
        """Sleep until something has changed since :meth:`note`, or until an alarm.

        Parameters
        ----------
        alarm : Alarm

        Returns
        -------
        Wakeup
            What woke the server.
        """
        look_at_nodes = time.monotonic() + self.settings.node_seconds
        while True:
            if self.stop.is_given():
                return Wakeup.STOP
            if self.ledger.outside_version() != self._version:
                return Wakeup.LEDGER
            if time.time() >= alarm.at:
                return Wakeup.CLOCK
            if time.monotonic() >= look_at_nodes:
                if frozenset(self.grid.get_node_ids()) != self._nodes:
                    return Wakeup.NODES
                look_at_nodes = time.monotonic() + self.settings.node_seconds
            self.beat()
            time.sleep(min(self.settings.ledger_seconds, max(0.0, alarm.at - time.time())))
