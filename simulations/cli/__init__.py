"""The command ``fed-unlearn``.

Importing this package costs next to nothing: :func:`main` is there before the commands are, and catches an interrupt
while they are imported.
"""

from __future__ import annotations

from fed_unlearn.simulations.cli.edge import main, run_command
from fed_unlearn.simulations.cli.orders.codes import (
    BAD_INPUT,
    COMMITTED,
    INTERNAL_ERROR,
    INTERRUPTED,
    NOT_COMMITTED,
    OUTPUT_CLOSED,
)

TYPE_CHECKING = False  # typing itself takes a while to import
if TYPE_CHECKING:
    from fed_unlearn.simulations.cli.commands import app

__all__ = [
    "BAD_INPUT",
    "COMMITTED",
    "INTERNAL_ERROR",
    "INTERRUPTED",
    "NOT_COMMITTED",
    "OUTPUT_CLOSED",
    "app",
    "main",
    "run_command",
]


def __getattr__(name: str) -> object:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fed_unlearn.simulations.cli.commands import app

    return app
