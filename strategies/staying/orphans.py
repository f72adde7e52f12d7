"""A ServerApp whose SuperLink is gone ends, whatever it waits for."""

from __future__ import annotations

import logging
import os
import sys
import time
from functools import cache
from itertools import pairwise

from fed_unlearn.parents import when_orphaned

logger = logging.getLogger("fed_unlearn.strategies")

_FLAG = "--parent-pid"
_GRACE_SECONDS = 15.0


@cache
def end_with_superlink() -> bool:
    """Watch the process that Flower started this one from, and end this one soon after it.

    Flower asks a ServerApp to end by a signal to itself. A main thread that waits for a message to be handed over never
    takes it, and keeps the ledger from the next run. Nothing is lost by the hard end: every step is written down
    before it is taken.

    Returns
    -------
    bool
        Whether there is anything to watch: only where Flower has started this process for a ServerApp.
    """
    parent = _flower_parent()
    if parent is None:
        return False
    when_orphaned(parent, _end)
    return True


def superlink_is_gone() -> bool:
    """Whether the process that Flower started this one from has ended. Flower then sends this one a SIGINT."""
    parent = _flower_parent()
    return parent is not None and os.getppid() != parent


@cache
def _flower_parent() -> int | None:
    """The parent at the first call, where Flower has started this process for a ServerApp."""
    parent = os.getppid()
    is_told = f"{_FLAG}={parent}" in sys.argv or (_FLAG, str(parent)) in pairwise(sys.argv)
    return parent if is_told else None


def _end() -> None:
    time.sleep(_GRACE_SECONDS)  # for Flower's own way
    logger.error("the SuperLink is gone, and this process is ended; run the app again, it goes on where it was")
    os._exit(1)
