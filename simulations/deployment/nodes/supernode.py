"""The SuperNode's process: Flower's own ``flower-supernode``, which ends with the process that started it.

``python -m fed_unlearn.simulations.deployment.nodes.supernode PARENT FLAGS...`` is what ``fed-unlearn node`` starts.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable

_WATCH_SECONDS = 0.5


def end_with_parent(parent: int, end: Callable[[], None]) -> None:
    """Watch the parent process from a thread, and call a function once it is gone, however it went.

    Parameters
    ----------
    parent : int
        The process id of the parent. A process whose parent has ended is given another.
    end : callable
        What ends this process.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_SECONDS)
        end()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def main(arguments: list[str]) -> None:
    """Run a SuperNode until it ends.

    Flower's command leaves its process alive, without a node, when the connection to the SuperLink breaks for good.
    Such a process ends here with exit code 1, so that it can be started again.
    """
    end_with_parent(int(arguments[0]), lambda: os.kill(os.getpid(), signal.SIGTERM))
    from flwr.supernode.cli.flower_supernode import flower_supernode

    sys.argv = ["flower-supernode", *arguments[1:]]
    flower_supernode()
    print("ERROR: the connection to the SuperLink is over", file=sys.stderr, flush=True)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
