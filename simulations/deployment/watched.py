"""Runs a command of Flower in this process, and ends it if the process that started it is gone.

It is started as a file, ``python -P watched.py NAME ARGUMENTS...``, so that nothing but Flower is imported.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from importlib.metadata import entry_points
from typing import cast

_POLL_SECONDS = 0.5
_GRACE_SECONDS = 12.0


def command(name: str, *arguments: str) -> list[str]:
    """The command line that runs a console script of Flower, such as ``flower-superlink``, watched.

    Parameters
    ----------
    name : str
        Name of the console script.
    *arguments : str
        Its arguments.
    """
    return [sys.executable, "-P", __file__, name, *arguments]


def end_with_parent() -> None:
    """From now on, end this process within seconds after its parent: in order, or else at once."""
    threading.Thread(target=_watch, args=(os.getppid(),), name="parent", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os._exit(1)


def main() -> int | str | None:
    """Run the console script that the command line names."""
    name = sys.argv[1]
    (found,) = entry_points(group="console_scripts", name=name)
    end_with_parent()
    sys.argv = [name, *sys.argv[2:]]
    return cast("int | str | None", found.load()())


if __name__ == "__main__":
    sys.exit(main())
