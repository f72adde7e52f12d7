"""What a live page shows: the report of a run folder as it is now, drawn only when somebody looks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fed_unlearn.simulations.report.page import render_report
from fed_unlearn.simulations.run.results import FILE_NAME, ResultsError, RunResults

logger = logging.getLogger("fed_unlearn.simulations")

_LEAST_PAUSE, _SHARE_OF_TIME = 1.0, 5.0
"""Seconds between two drawings, and how many times as long as a drawing took."""

_NOTHING = "0"
_NO_PAGE = (
    '<!doctype html>\n<html lang="en"><head>\n<meta http-equiv="refresh" content="5"><title>run</title></head>'
    "<body><main>The report cannot be drawn yet; see the log of the run.</main></body></html>"
)
"""What is shown until a page can be drawn. It asks again."""


@dataclass(frozen=True)
class Shown:
    """A page that was drawn.

    Attributes
    ----------
    version : str
        Version of the results that it shows.
    page : str
        The whole page.
    """

    version: str
    page: str

    @property
    def main(self) -> str:
        """What is inside the page's ``main`` element."""
        start = self.page.index(">", self.page.index("<main")) + 1
        return self.page[start : self.page.index("</main>")]


class RunView:
    """The report of a run that goes on.

    Drawing takes time from the run, so that it is done only when a page is asked for, at most once a second, and for at
    most a sixth of the time.

    Parameters
    ----------
    folder : Path
        The run folder. It may be made later.
    name : str
        What the page is called before there are results.
    results : callable, optional
        Reads the results, and raises ResultsError where there are none. Those of the folder by default.
    version : callable, optional
        Returns a text that changes with the results, and is cheap. That of ``results.json`` by default.
    anonymous : bool
        Whether clients have letters in place of their names.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        results: Callable[[], RunResults] | None = None,
        version: Callable[[], str] | None = None,
        anonymous: bool = False,
    ) -> None:
        self._folder, self._name = folder, name
        self._results = results or (lambda: RunResults.load(folder))
        self._version = version or (lambda: version_of(folder / FILE_NAME))
        self._anonymous = anonymous
        self._lock = threading.Lock()
        self._shown: Shown | None = None
        self._next = 0.0
        self._told = False

    def version(self) -> str:
        """The version of the results as they are now."""
        return self._version()

    def shown(self, *, now: bool = False) -> Shown:
        """The page, drawn anew where the results have changed and the last drawing is long enough ago.

        Parameters
        ----------
        now : bool
            Whether to draw it however recent the last drawing is, as at the end of a run.
        """
        with self._lock:
            version = self._version()
            is_due = now or time.monotonic() >= self._next
            if self._shown is None or (is_due and self._shown.version != version):
                started = time.monotonic()
                self._shown = Shown(version, self._drawn())
                took = time.monotonic() - started
                self._next = time.monotonic() + max(_LEAST_PAUSE, _SHARE_OF_TIME * took)
            return self._shown

    def _drawn(self) -> str:
        """The page; where it cannot be drawn, the one before, since a page may not end a run."""
        try:
            results = self._results()
        except ResultsError:
            results = RunResults(scenario=self._name, seed=0, engine="")
        try:
            return render_report(results, self._folder, live=True, anonymous=self._anonymous)
        except Exception:  # the next results may be drawn again
            if not self._told:
                logger.warning("the live page cannot be drawn; the run goes on", exc_info=True)
                self._told = True
            return self._shown.page if self._shown is not None else _NO_PAGE


def version_of(file: Path) -> str:
    """A text that changes when a file is replaced; the same one while it is not there."""
    try:
        status = file.stat()
    except OSError:
        return _NOTHING
    return f"{status.st_mtime_ns}-{status.st_ino}-{status.st_size}"
