"""What a server that stays is doing, in a file beside its ledger that ``fed-unlearn status`` reads."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from fed_unlearn.checkpoints import write_atomically
from fed_unlearn.errors import FedUnlearnError

BEAT_SECONDS = 30.0
"""The file of a server that sleeps, or waits for clients, is never much older."""

SILENT_SECONDS = 600.0
"""A server whose file is older hangs, or computes for long without asking its clients for anything."""

_MOST_OFTEN = 1.0


@dataclass(frozen=True, kw_only=True)
class LiveStatus:
    """What a server is doing.

    Attributes
    ----------
    process : int
        Process id of the server.
    host : str
        Name of its machine.
    run : int
        Id of its Flower run; 0 where it has none.
    started, written : float
        Times at which the server started and at which this was written, in seconds since the epoch.
    doing : str
        What the server is doing, in a few words.
    since : float
        Time at which it began that, in seconds since the epoch.
    wakes_at : float or None
        Time at which the clock wakes it next, in seconds since the epoch; None where only the ledger or a node can, or
        where it does not sleep.
    connected : tuple of str
        Clients that are connected and take part.
    left_out : mapping of str to str
        Clients, or nodes, that are connected and do not take part; and why.
    messages : int
        Messages sent since the start.
    problem : str or None
        What went wrong last; None once it has gone well.
    """

    process: int
    host: str
    run: int
    started: float
    written: float
    doing: str
    since: float
    wakes_at: float | None = None
    connected: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    messages: int = 0
    problem: str | None = None

    @property
    def silent_for(self) -> float:
        """The seconds since this was written."""
        return time.time() - self.written

    @classmethod
    def of_this_process(cls, run: int, doing: str) -> LiveStatus:
        """The status of a server that starts in this process now, in a Flower run."""
        now, host = time.time(), socket.gethostname()
        return cls(process=os.getpid(), host=host, run=run, started=now, written=now, doing=doing, since=now)


def status_file(ledger: Path) -> Path:
    """The file of the server that works on a ledger."""
    return ledger.with_name(f"{ledger.name}.server.json")


def read_live_status(ledger: Path) -> LiveStatus | None:
    """The status that the last server of a ledger wrote; None if there is none.

    Raises
    ------
    FedUnlearnError
        If the file cannot be read.
    """
    file = status_file(ledger)
    try:
        body = json.loads(file.read_text())
        return LiveStatus(**{**body, "connected": tuple(body["connected"])})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise FedUnlearnError(f"{file}: cannot be read: {error}; delete it, the server writes it anew") from error


@dataclass
class StatusWriter:
    """Keeps the file of a server up to date.

    Attributes
    ----------
    ledger : Path
        The ledger's file.
    status : LiveStatus
        The present status.
    observer : callable or None
        Called with every status that is written.
    """

    ledger: Path
    status: LiveStatus
    observer: Callable[[LiveStatus], None] | None = None
    _changed: bool = field(default=True, init=False)

    def become(self, status: LiveStatus) -> None:
        """Take another status. It is written at most once in a second; :meth:`beat` makes up for it."""
        self._changed = self._changed or status != self.status
        self.status = status
        self.beat()

    def say(self, doing: str) -> None:
        """Say what the server does from now on."""
        if doing != self.status.doing:
            self.become(replace(self.status, doing=doing, since=time.time(), wakes_at=None))

    def beat(self) -> None:
        """Write the file if something has changed, or if it has become old."""
        age = time.time() - self.status.written
        if age >= BEAT_SECONDS or (self._changed and age >= _MOST_OFTEN):
            self.write()

    def write(self) -> None:
        """Write the file now."""
        self.status, self._changed = replace(self.status, written=time.time()), False
        write_atomically(status_file(self.ledger), json.dumps(asdict(self.status)).encode())
        if self.observer is not None:
            self.observer(self.status)
