"""Figures of a run for TensorBoard, as event files in its run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fed_unlearn.simulations.tracking.base import Point, TrackedRun, Tracker, register

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"


@register("tensorboard")
class TensorBoardTracker(Tracker):
    """Writes ``tracking/tensorboard``: a scalar for each figure, a text for the settings and for each fact."""

    modules = ("tensorboard", "torch.utils.tensorboard")
    install = "fed-unlearn[tensorboard]"

    def begin(self, run: TrackedRun) -> None:
        """Open an event file; a run that goes on gets another one in the same folder, which TensorBoard joins."""
        from torch.utils.tensorboard import SummaryWriter

        folder = run.folder / FOLDER
        self._known = _scalars(folder) if run.is_resumed else set()
        self._writer: SummaryWriter = SummaryWriter(str(folder))
        if not run.is_resumed:
            rows = "".join(f"| {name} | {value} |\n" for name, value in run.settings.items())
            self._writer.add_text("settings", f"| setting | value |\n| --- | --- |\n{rows}")
            self._writer.flush()

    def log(self, points: Sequence[Point]) -> None:
        """Write the points to disk, but those that are there already."""
        for point in points:
            for name, value in point.figures.items():
                if (name, point.step) not in self._known:
                    self._writer.add_scalar(name, value, point.step)
            for name, text in point.tags.items():
                self._writer.add_text(name, text, point.step)
        self._writer.flush()

    def close(self, *, complete: bool) -> None:
        """Close the event file."""
        self._writer.close()


def _scalars(folder: Path) -> set[tuple[str, int]]:
    """Name and step of every scalar in a folder's event files."""
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    if not folder.is_dir():
        return set()
    events = EventAccumulator(str(folder), size_guidance={SCALARS: 0}).Reload()
    return {(name, event.step) for name in events.Tags()[SCALARS] for event in events.Scalars(name)}
