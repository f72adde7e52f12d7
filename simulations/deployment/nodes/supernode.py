"""The SuperNode's process: Flower's own ``flower-supernode``, which ends with the process that started it.

``python -m fed_unlearn.simulations.deployment.nodes.supernode PARENT FLAGS...`` is what ``fed-unlearn node`` starts.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from fed_unlearn.parents import when_orphaned

_LOOP = "flwr.supernode.start_client_internal"
_REPLY_POLL_SECONDS = 0.5  # Flower's wait while a message is answered; all other waits are for a message
_FIRST_SECONDS, _POLL_SHARE = 0.2, 0.2
_BUSY_SECONDS = 10.0


class ShortPauses:
    """The ``time`` module with a ``sleep`` that is short while a SuperNode has work, for Flower's loop in it.

    Flower's SuperNode waits 3 s when there was no message, and looks twice a second whether a message is answered; no
    setting changes that. A round waits for its last SuperNode, so that nearly every round would take 3 s longer. Here a
    wait takes 0.2 s or a share of the time since work was last there, and no longer than Flower's own. After 10 s
    without a message it is Flower's own, so that an idle SuperNode costs no more than Flower's.

    Parameters
    ----------
    clock : module
        The ``time`` module. Everything but ``sleep`` is passed on to it.
    """

    def __init__(self, clock: Any = time) -> None:
        self._clock = clock
        self._since = clock.monotonic()
        self._is_answering = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clock, name)

    def sleep(self, seconds: float) -> None:
        """Sleep as long as Flower's loop says, or less."""
        now, is_answering = self._clock.monotonic(), seconds == _REPLY_POLL_SECONDS
        if is_answering != self._is_answering:
            self._since, self._is_answering = now, is_answering
        waited = now - self._since
        if is_answering or waited < _BUSY_SECONDS:
            seconds = min(seconds, max(_FIRST_SECONDS, waited * _POLL_SHARE))
        self._clock.sleep(seconds)


def main(arguments: list[str]) -> None:
    """Run a SuperNode until it ends.

    Flower's command leaves its process alive, without a node, when the connection to the SuperLink breaks for good.
    Such a process ends here with exit code 1, so that it can be started again.
    """
    when_orphaned(int(arguments[0]), lambda: os.kill(os.getpid(), signal.SIGTERM))
    from flwr.supernode.cli.flower_supernode import flower_supernode

    loop = sys.modules.get(_LOOP)
    if loop is not None and getattr(loop, "time", None) is time:
        vars(loop)["time"] = ShortPauses()
    sys.argv = ["flower-supernode", *arguments[1:]]
    flower_supernode()
    print("ERROR: the connection to the SuperLink is over", file=sys.stderr, flush=True)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
