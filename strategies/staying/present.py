"""Whether what a server said is from the process that works on the ledger now."""

from __future__ import annotations

from fed_unlearn.locks import Worker
from fed_unlearn.strategies.staying.live_status import LiveStatus

_NANOSECONDS = 1e9


def is_said_by(worker: Worker | None, live: LiveStatus | None) -> bool:
    """Whether a status was written by a process since it works on the ledger.

    The file of a server that was killed stays, and in a container the next process often has the same id.

    Parameters
    ----------
    worker : Worker or None
        The process that works on the ledger, from :func:`fed_unlearn.locks.worker_on`.
    live : LiveStatus or None
        The status, from :func:`fed_unlearn.strategies.staying.live_status.read_live_status`.
    """
    if worker is None or live is None:
        return False
    return live.process == worker.process and live.written >= worker.since / _NANOSECONDS
