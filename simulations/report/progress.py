"""The progress of a run while it lasts: bars on a terminal, lines of text elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from fed_unlearn.simulations.report.layout import print_line
from fed_unlearn.strategies import Event, Observer
from fed_unlearn.text import printable

_LINES_A_TRAINING = 10


@contextmanager
def watching(console: Console) -> Iterator[Observer]:
    """Make an observer that shows a run on a console until the ``with`` block ends.

    Parameters
    ----------
    console : Console
        The console. On a terminal, bars are drawn. Elsewhere about ten lines are printed for a training, and one for
        each step of a request.
    """
    if not console.is_terminal:
        yield lambda event: _print_line(console, event)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Bars(progress)


def _print_line(console: Console, event: Event) -> None:
    if event.kind == "training-round" and event.step % math.ceil(max(event.steps, 1) / _LINES_A_TRAINING):
        return
    print_line(console, sentence(event))


def sentence(event: Event) -> str:
    """An event in one line, such as ``r1: committed``."""
    if event.request_id:
        return f"{event.request_id}: {event.text}"
    return {"training-started": "training started: ", "training-finished": "training finished: "}.get(
        event.kind, ""
    ) + event.text


class _Bars:
    """A bar for the current step. A finished step stays above it as a line."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._current: TaskID | None = None
        self._subject: str | None = None

    def __call__(self, event: Event) -> None:
        if event.kind.endswith(("-finished", "-refused", "-waits", "-doubted", "-failed")):
            self._close()
            print_line(self._progress.console, sentence(event))
            return
        subject = event.request_id or "training"
        if self._current is None or subject != self._subject:
            self._close()
            self._subject = subject
            self._current = self._progress.add_task("", total=event.steps or None, count="")
        self._progress.update(
            self._current,
            description=printable(sentence(event) if event.request_id else event.text),
            total=event.steps or None,
            completed=event.step,
            count=f"{event.step}/{event.steps}" if event.steps else "",
        )

    def _close(self) -> None:
        if self._current is not None:
            self._progress.remove_task(self._current)
            self._current = None
