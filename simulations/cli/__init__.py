"""The command ``fed-unlearn``."""

from fed_unlearn.simulations.cli.commands import (
    BAD_INPUT,
    COMMITTED,
    INTERRUPTED,
    NOT_COMMITTED,
    app,
    main,
    run_command,
)

__all__ = ["BAD_INPUT", "COMMITTED", "INTERRUPTED", "NOT_COMMITTED", "app", "main", "run_command"]
