"""Figures of a run for Weights & Biases."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from typing import Any, Literal, cast

from fed_unlearn.simulations.tracking.base import Point, TrackedRun, Tracker, register

_PROJECT, _OFFLINE = "fed-unlearn", "offline"


@register("wandb")
class WandbTracker(Tracker):
    """Writes ``tracking/wandb`` of the run folder, and sends nothing unless ``WANDB_MODE`` is ``online``.

    What was written offline is sent by ``wandb sync``. The project is ``WANDB_PROJECT``, or ``fed-unlearn``. Nothing
    that the library finds by itself is kept: no command line, no output, no source, no facts of the machine. A run that
    goes on keeps its id, and its points keep their numbers, so that a point that is sent twice is taken once. The
    library keeps up to 32 KiB in memory, which a kill takes away: then all points are written again.
    """

    modules = ("wandb",)
    install = "fed-unlearn[wandb]"
    survives_kills = False

    @classmethod
    def check(cls) -> None:
        """Import the library, with its error reports off unless the user's environment has them on."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        super().check()

    def begin(self, run: TrackedRun) -> str:
        """Begin a run, or go on with the one of the same id."""
        import wandb

        settings = wandb.Settings(
            console="off",
            silent=True,
            disable_code=True,
            disable_git=True,
            host="",
            save_code=False,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        mode = os.environ.get("WANDB_MODE") or _OFFLINE
        found = run.id or secrets.token_hex(8)
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or _PROJECT,
            name=run.name,
            id=found,
            mode=cast(Literal["online", "offline", "disabled", "shared"], mode),
            dir=str(run.folder),
            config=dict(run.settings),
            settings=settings,
            resume="allow" if mode == "online" else None,
        )
        self._run.define_metric("round")
        self._run.define_metric("*", step_metric="round")
        return found

    def log(self, points: Sequence[Point]) -> None:
        """Write the points, each under its number and with the round as axis."""
        for point in points:
            if point.figures:
                self._run.log({"round": point.step, **point.figures}, step=point.number, commit=True)
            for name, text in point.tags.items():
                self._run.summary[name] = text

    def close(self, *, complete: bool) -> None:
        """End the run; one that is not at its end is marked as failed."""
        self._run.finish(exit_code=0 if complete else 1)
