"""The contract of a tracker, which hands a run's figures to another program, and the registry of trackers."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.registry import Registry

Setting = bool | int | float | str


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """What a tracker is told of a run when it begins or goes on.

    Attributes
    ----------
    name : str
        Name of the scenario and its seed, such as ``digits-seed0``.
    folder : Path
        The folder ``tracking`` of the run folder. It exists. A tracker may write into it.
    settings : mapping of str to (bool, int, float or str)
        Settings of the scenario by dotted key, such as ``training.learning-rate``. They name no sample, no client and
        no path.
    id : str or None
        What :meth:`Tracker.begin` returned when the run began. None for a run that begins.
    is_resumed : bool
        Whether an earlier process has begun to track the run.
    """

    name: str
    folder: Path
    settings: Mapping[str, Setting] = field(default_factory=dict)
    id: str | None = None
    is_resumed: bool = False


@dataclass(frozen=True, kw_only=True)
class Point:
    """Figures of one moment of a run.

    Attributes
    ----------
    key : str
        Name of the point, which no other point of the run has.
    event : str
        ``train:1`` for the first training step, or the id of a request.
    step : int
        Rounds of the whole run up to that moment, with unlearn and repair rounds.
    figures : mapping of str to float
        Finite numbers by name, such as ``test_accuracy`` or ``r1/after/forget_accuracy``.
    tags : mapping of str to str
        Facts in words by name, such as ``r1/status``.
    number : int
        Position among all points of the run in the order in which they were logged, from 0.
    """

    key: str
    event: str
    step: int
    figures: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    number: int = 0


class Tracker(ABC):
    """Hands figures of one run to another program.

    A subclass is registered by :func:`register` and implements the three abstract methods. It may raise anything in
    them: the run goes on, and what was not logged is logged at its end or when it is resumed.

    Attributes
    ----------
    name : str
        Name that the tracker is registered by.
    modules : tuple of str
        Modules that it imports when it begins.
    install : str
        What ``pip install`` is given where one of the modules is missing. Empty where none can be.
    survives_kills : bool
        Whether a process that is killed right after :meth:`log` loses nothing of what was logged. If not, a run that
        goes on after a kill logs all its points again, each under its number.
    """

    name: ClassVar[str]
    modules: ClassVar[tuple[str, ...]]
    install: ClassVar[str] = ""
    survives_kills: ClassVar[bool] = True

    @classmethod
    def check(cls) -> None:
        """Import what the tracker needs.

        Raises
        ------
        InvalidParameterError
            If a module is missing or cannot be imported. The message says what to install.
        """
        for module in cls.modules:
            try:
                importlib.import_module(module)
            except Exception as error:  # another package may raise anything when it is imported
                is_missing = isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]
                why = "is not installed" if is_missing else f"cannot be imported ({type(error).__name__}: {error})"
                remedy = f"; pip install '{cls.install}'" if cls.install else ""
                raise InvalidParameterError(f"tracker {cls.name!r} needs {module}, which {why}{remedy}") from error

    @abstractmethod
    def begin(self, run: TrackedRun) -> str | None:
        """Begin to track a run, or go on with it.

        Returns
        -------
        str or None
            What the tracker needs to find the run again: printable text of at most 500 characters. It is given back as
            ``run.id`` when the run is resumed. Any other text is not kept.
        """

    @abstractmethod
    def log(self, points: Sequence[Point]) -> None:
        """Log points, in order.

        A process may be killed after points were logged and before that was noted. The points come again when the run
        is resumed. A tracker that can tell leaves them out then.
        """

    @abstractmethod
    def close(self, *, complete: bool) -> None:
        """End the tracking in this process.

        Parameters
        ----------
        complete : bool
            Whether the run is at its end. A run that is not may be resumed.
        """


TRACKERS: Registry[Tracker] = Registry(
    "tracker",
    contract="fed_unlearn.simulations.tracking.base:Tracker",
    group="fed_unlearn.trackers",
    built_in=(
        "fed_unlearn.simulations.tracking.csv_tracker",
        "fed_unlearn.simulations.tracking.tensorboard_tracker",
        "fed_unlearn.simulations.tracking.mlflow_tracker",
        "fed_unlearn.simulations.tracking.wandb_tracker",
    ),
)
register = TRACKERS.register
