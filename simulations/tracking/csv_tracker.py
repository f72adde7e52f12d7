"""Figures of a run as CSV files in its run folder."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from fed_unlearn.checkpoints import write_atomically
from fed_unlearn.simulations.tracking.base import Point, TrackedRun, Tracker, register

METRICS, FACTS = "metrics.csv", "facts.csv"

_METRICS_HEAD, _FACTS_HEAD = ("step", "event", "name", "value"), ("name", "value")
Row = tuple[str, ...]


@register("csv")
class CsvTracker(Tracker):
    """Writes ``tracking/metrics.csv``, a row for each figure, and ``tracking/facts.csv``: settings and verdicts.

    Each file is the old one or the new one at any moment. A row that is there already is not written again.
    """

    modules = ("csv",)

    def begin(self, run: TrackedRun) -> None:
        """Read what an earlier process wrote, and write the settings."""
        self._folder = run.folder
        self._metrics = _read(run.folder / METRICS)
        self._facts = {row[0]: row[1] for row in _read(run.folder / FACTS)}
        self._facts |= {name: str(value) for name, value in run.settings.items()}
        self._save()

    def log(self, points: Sequence[Point]) -> None:
        """Add the rows of the points."""
        known = {row[:3] for row in self._metrics}
        for point in points:
            for name, value in point.figures.items():
                row = (str(point.step), point.event, name, repr(value))
                if row[:3] not in known:
                    self._metrics.append(row)
            self._facts |= point.tags
        self._save()

    def close(self, *, complete: bool) -> None:
        """Nothing is open."""

    def _save(self) -> None:
        write_atomically(self._folder / METRICS, _written(_METRICS_HEAD, self._metrics))
        write_atomically(self._folder / FACTS, _written(_FACTS_HEAD, self._facts.items()))


def _read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [tuple(row) for row in csv.reader(file)][1:]


def _written(head: Row, rows: Iterable[Row]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows((head, *rows))
    return text.getvalue().encode()
