"""Trackers for somebody's own ServerApp: an observer that logs what the server's ledger says."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.simulations.run.ledger_results import results_of_ledger
from fed_unlearn.simulations.run.results import APP, RunResults
from fed_unlearn.simulations.tracking.base import TRACKERS, Setting
from fed_unlearn.simulations.tracking.tracking import Tracking

if TYPE_CHECKING:
    from fed_unlearn.strategies import Event

logger = logging.getLogger("fed_unlearn.simulations")

_WORTH_LOGGING = ("training-round", "training-finished", "request-finished")


class TrackingObserver:
    """Logs the figures of a federation to trackers. It is given as ``ContinualUnlearning(observer=...)``.

    Parameters
    ----------
    trackers : sequence of str
        Names, such as ``["mlflow"]``.
    ledger : str or Path
        The file of the strategy's ledger.
    folder : str or Path, optional
        Where ``tracking`` is made, in which files and the state of the trackers are kept; beside the ledger by default.
    name : str
        Name of the run for trackers.
    settings : mapping of str to (bool, int, float or str)
        Settings to log with it.
    ledger_key : str or Path, optional
        The file of the ledger's key, if it is not beside the ledger.

    Raises
    ------
    InvalidParameterError
        If a tracker is unknown, or what it imports is not installed. The message names what to install.

    Examples
    --------
    >>> observer = TrackingObserver(["csv"], ledger="ledger.db")  # doctest: +SKIP
    >>> strategy = ContinualUnlearning(FedAvg(), ledger="ledger.db", observer=observer)  # doctest: +SKIP
    >>> strategy.start(grid, initial_arrays=arrays, num_rounds=20)  # doctest: +SKIP
    >>> observer.close()  # doctest: +SKIP
    """

    def __init__(
        self,
        trackers: Sequence[str],
        *,
        ledger: str | Path,
        folder: str | Path | None = None,
        name: str = "federation",
        settings: Mapping[str, Setting] | None = None,
        ledger_key: str | Path | None = None,
    ) -> None:
        for tracker in trackers:
            TRACKERS.find(tracker).check()
        self._ledger, self._name = Path(ledger), name
        self._key = None if ledger_key is None else Path(ledger_key)
        place = self._ledger.absolute().parent if folder is None else Path(folder)
        self._tracking = Tracking(trackers, place, name=name, settings=settings or {})

    def __call__(self, event: Event) -> None:
        """Log what is new in the ledger, where an event is one after which something is."""
        if event.kind in _WORTH_LOGGING and (results := self._results()) is not None:
            self._tracking.note(results)

    def close(self) -> None:
        """Log what is left, and end the tracking in this process."""
        unknown = RunResults(scenario=self._name, seed=0, engine=APP)
        self._tracking.close(self._results() or unknown)

    def _results(self) -> RunResults | None:
        """What the ledger says; None where it cannot be read, which ends no training."""
        if not self._ledger.is_file():
            return None
        try:
            return results_of_ledger(self._ledger, self._key, name=self._name)
        except (FedUnlearnError, OSError, sqlite3.Error) as error:
            logger.warning("trackers are not told of %s: %s", self._ledger, error)
            return None
