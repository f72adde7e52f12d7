"""The process of one cell: ``python -m fed_unlearn.simulations.cli.sweep_worker PARENT ARGUMENTS``.

It is ``fed-unlearn ARGUMENTS`` that ends with the process PARENT, however that one ends.
"""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

from fed_unlearn.parents import end_with


def main() -> NoReturn:
    """Run the command. It takes interrupts, also where the sweep runs in the background of a shell, which does not."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    end_with(int(sys.argv.pop(1)))
    from fed_unlearn.simulations.cli import main as command

    command()


if __name__ == "__main__":
    main()
