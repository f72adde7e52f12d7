"""Runs a command of Flower in this process, and ends it if the process that started it is gone.

It is started as a file, ``python -P watched.py PARENT NAME ARGUMENTS...``, and imports little beside Flower.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from importlib.metadata import entry_points
from typing import cast

from fed_unlearn.parents import when_orphaned

_GRACE_SECONDS = 12.0


def command(name: str, *arguments: str) -> list[str]:
    """The command line that runs a console script of Flower, such as ``flower-superlink``, watched.

    It names this process as the parent, which may be gone before the new process can ask who started it.

    Parameters
    ----------
    name : str
        Name of the console script.
    *arguments : str
        Arguments of the console script.
    """
    return [sys.executable, "-P", __file__, str(os.getpid()), name, *arguments]


def _end() -> None:
    """End this process: in order, or else at once."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os._exit(1)


def main() -> int | str | None:
    """Run the console script that the command line names."""
    when_orphaned(int(sys.argv[1]), _end)
    name = sys.argv[2]
    (found,) = entry_points(group="console_scripts", name=name)
    sys.argv = [name, *sys.argv[3:]]
    return cast("int | str | None", found.load()())


if __name__ == "__main__":
    sys.exit(main())
