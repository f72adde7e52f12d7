"""Keeps the trackers of a run up to date: each gets every point once, also over kills, and none can end the run."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from pydantic import BaseModel, TypeAdapter

from fed_unlearn.checkpoints import make_private_folder, write_atomically
from fed_unlearn.simulations.run.results import RunResults
from fed_unlearn.simulations.scenario.errors import errors_at
from fed_unlearn.simulations.scenario.sections import Scenario
from fed_unlearn.simulations.tracking.base import TRACKERS, Point, Setting, TrackedRun, Tracker
from fed_unlearn.simulations.tracking.points import points_of, settings_of
from fed_unlearn.text import printable

logger = logging.getLogger("fed_unlearn.simulations")

FOLDER = "tracking"

_STATE_FILE = "logged.json"
_LONGEST_ID = 500
_CREDENTIALS = re.compile(r"//[^/@\s]+@")


def check_trackers(scenario: Scenario) -> None:
    """See that every tracker that a scenario names is there, and that what it imports is installed.

    Raises
    ------
    ScenarioError
        If a tracker is unknown, or a module is missing. The message names what to install.
    """
    with errors_at(scenario, "reporting", "trackers"):
        for name in scenario.reporting.trackers:
            TRACKERS.find(name).check()


class _Kept(BaseModel):
    """What is kept of a tracker between processes.

    Attributes
    ----------
    id : str or None
        What it finds the run by.
    points : list of str
        The keys of the points that it has, in the order in which they were logged.
    closed : bool
        Whether the last process ended the tracking in order, so that nothing was lost.
    """

    id: str | None
    points: list[str]
    closed: bool = True


_STATE = TypeAdapter(dict[str, _Kept])


@dataclass
class _Followed:
    """A tracker, what it has of the run, and which of that an earlier process may have lost, since it was killed."""

    name: str
    kind: Callable[[], Tracker]
    made: Tracker | None = None
    id: str | None = None
    logged: list[str] = field(default_factory=list)
    was_begun_before: bool = False
    in_doubt: set[str] = field(default_factory=set)
    is_open: bool = False
    has_failed: bool = False

    @property
    def tracker(self) -> Tracker:
        """The tracker, made when it is first needed."""
        self.made = self.made or self.kind()
        return self.made


class Tracking:
    """The trackers of one run.

    Where the folder ``tracking`` cannot be made, that is said, and no tracker is told of anything.
    A tracker that fails is left alone for the rest of the run, and tried once more at its end. What it missed is
    logged then, or when the run is resumed. What each tracker has is kept in ``tracking/logged.json``.

    Parameters
    ----------
    names : sequence of str
        Names of trackers that are there; see :func:`check_trackers`.
    folder : Path
        The run folder.
    name : str
        Name of the run for trackers.
    settings : mapping of str to (bool, int, float or str)
        Settings of the run; see :func:`~fed_unlearn.simulations.tracking.points.settings_of`.
    warn : callable
        Called with one line of text for each tracker that fails.
    """

    def __init__(
        self,
        names: Sequence[str],
        folder: Path,
        *,
        name: str,
        settings: Mapping[str, Setting],
        warn: Callable[[str], object] = lambda text: None,
    ) -> None:
        self._folder, self._name, self._settings, self._warn = folder / FOLDER, name, settings, warn
        self._state, self._followed = dict[str, _Kept](), list[_Followed]()
        try:
            make_private_folder(self._folder)
        except OSError as error:
            self._tell(
                f"no tracker is told of this run: the folder {self._folder} cannot be made: {error.strerror}; move away"
                " what is in its place"
            )
            return
        self._state = self._load()
        self._followed = [self._new(tracker) for tracker in dict.fromkeys(names)]
        for followed in self._followed:
            self._try(followed, self._begin)

    @classmethod
    def of(
        cls, scenario: Scenario, folder: Path, facts: Mapping[str, Setting], warn: Callable[[str], object]
    ) -> Self | None:
        """The trackers that a scenario names, or None where it names none.

        Parameters
        ----------
        scenario : Scenario
        folder : Path
            The run folder.
        facts : mapping of str to (bool, int, float or str)
            What is logged with the scenario's settings, such as versions.
        warn : callable
            Called with one line of text for each tracker that fails.
        """
        if not scenario.reporting.trackers:
            return None
        settings = {**settings_of(scenario), **facts}
        name = f"{scenario.name}-seed{scenario.seed}"
        return cls(scenario.reporting.trackers, folder, name=name, settings=settings, warn=warn)

    def note(self, results: RunResults) -> None:
        """Log the points that are new.

        Parameters
        ----------
        results : RunResults
            The results so far.
        """
        points = points_of(results)
        for followed in self._followed:
            if not followed.has_failed:
                self._try(followed, lambda one: self._log(one, points))

    def close(self, results: RunResults) -> None:
        """Log what is new, with one more try of trackers that failed, and end the tracking in this process.

        Parameters
        ----------
        results : RunResults
            The results so far.
        """
        points = points_of(results)
        for followed in self._followed:
            self._try(followed, lambda one: self._catch_up(one, points))
            if followed.is_open:
                self._try(followed, lambda one: self._end(one, complete=results.complete and not one.has_failed))
            missing = {point.key for point in points} - set(followed.logged)
            if missing:
                self._tell(f"tracker {followed.name} lacks {len(missing)} of {len(points)} points of the run")

    def _new(self, name: str) -> _Followed:
        kind, known = TRACKERS.find(name), self._state.get(name)
        if known is None:
            return _Followed(name, kind)
        followed = _Followed(name, kind, id=known.id, logged=known.points, was_begun_before=True)
        if not known.closed:
            followed.in_doubt = set(known.points)
        return followed

    def _begin(self, followed: _Followed) -> None:
        run = TrackedRun(
            name=self._name,
            folder=self._folder,
            settings=self._settings,
            id=followed.id,
            is_resumed=followed.was_begun_before,
        )
        followed.id = self._id_to_keep(followed.name, followed.tracker.begin(run))
        followed.is_open = followed.was_begun_before = True
        self._save(followed)

    def _id_to_keep(self, name: str, given: object) -> str | None:
        """What a tracker finds its run by, if a file can hold it. The file is that of all trackers."""
        if given is None or (isinstance(given, str) and len(given) <= _LONGEST_ID and given.isprintable()):
            return given
        self._tell(
            f"tracker {name}: its id of the run is not kept: expected printable text of"
            f" at most {_LONGEST_ID} characters; a run that is resumed gets another id"
        )
        return None

    def _log(self, followed: _Followed, points: Sequence[Point]) -> None:
        known = {key: number for number, key in enumerate(followed.logged)}
        new = [point for point in points if point.key not in known]
        if followed.tracker.survives_kills:
            followed.in_doubt.clear()
        again = [point for point in points if point.key in followed.in_doubt]
        if not (new or again):
            return
        numbers = known | {point.key: number for number, point in enumerate(new, start=len(followed.logged))}
        numbered = (replace(point, number=numbers[point.key]) for point in (*again, *new))
        followed.tracker.log(sorted(numbered, key=lambda point: point.number))
        followed.in_doubt -= {point.key for point in again}
        followed.logged += [point.key for point in new]
        self._save(followed)

    def _catch_up(self, followed: _Followed, points: Sequence[Point]) -> None:
        if not followed.is_open:
            self._begin(followed)
        self._log(followed, points)
        followed.has_failed = False

    def _end(self, followed: _Followed, *, complete: bool) -> None:
        followed.tracker.close(complete=complete)
        self._save(followed, closed=not followed.in_doubt)

    def _try(self, followed: _Followed, action: Callable[[_Followed], None]) -> None:
        """Do something with a tracker; whatever goes wrong there is told once and does not end the run."""
        try:
            action(followed)
        except (Exception, SystemExit) as error:  # other people's programs and servers may raise anything
            if not followed.has_failed:
                why = _CREDENTIALS.sub("//***@", printable(f"{type(error).__name__}: {_told(error)}", 300))
                once_more = "the run goes on without it, and tries it once more at its end"
                self._tell(f"tracker {followed.name} fails: {why}; {once_more}")
            followed.has_failed = True

    def _tell(self, text: str) -> None:
        logger.warning("%s", text)
        self._warn(text)

    def _load(self) -> dict[str, _Kept]:
        try:
            return _STATE.validate_json((self._folder / _STATE_FILE).read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError):
            self._tell(f"{self._folder / _STATE_FILE} cannot be read: what was logged before may be logged again")
            return {}

    def _save(self, followed: _Followed, *, closed: bool = False) -> None:
        self._state[followed.name] = _Kept(id=followed.id, points=list(followed.logged), closed=closed)
        write_atomically(self._folder / _STATE_FILE, _STATE.dump_json(self._state, indent=1) + b"\n")


def _told(error: BaseException) -> str:
    """The text of an error, which may fail to give one."""
    try:
        return str(error)
    except Exception:  # as above
        return "it says nothing"
