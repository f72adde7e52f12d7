"""How a command tells its user of a run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from fed_unlearn.simulations.run.results import RunResults
from fed_unlearn.strategies import Observer


@dataclass(frozen=True, kw_only=True)
class Telling:
    """What is shown of a run while it lasts, and at its end.

    Attributes
    ----------
    watching : callable
        Makes, from a console, a context whose value is called with every event.
    report : callable
        Called at the end with the results, the run folder and the console. It writes the figures and the report too.
    """

    watching: Callable[[Console], AbstractContextManager[Observer]]
    report: Callable[[RunResults, Path, Console], None]
