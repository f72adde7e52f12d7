"""Figures of a run for MLflow."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fed_unlearn.simulations.tracking.base import Point, TrackedRun, Tracker, register

if TYPE_CHECKING:
    from mlflow import MlflowClient

STORE = "mlflow.db"

_EXPERIMENT = "fed-unlearn"
_MOST_METRICS, _MOST_PARAMETERS = 1000, 100  # of one call, MLflow's own bounds
_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
"""Variables of MLflow that are set unless the user sets them: a server that is down must not hold up a run for long."""


@register("mlflow")
class MlflowTracker(Tracker):
    """Logs to the server of ``MLFLOW_TRACKING_URI``; without it to ``tracking/mlflow.db`` of the run folder.

    The experiment is ``MLFLOW_EXPERIMENT_NAME``, or ``fed-unlearn``. Settings are parameters, facts are tags. Nothing
    that MLflow finds by itself is sent: no user, no command line, no source.
    """

    modules = ("mlflow",)
    install = "fed-unlearn[mlflow]"

    @classmethod
    def check(cls) -> None:
        """Import MLflow, with its telemetry off unless the user's environment has it on."""
        for name, value in _DEFAULTS.items():
            os.environ.setdefault(name, value)
        super().check()

    def begin(self, run: TrackedRun) -> str:
        """Make a run of MLflow, or open the one that was made."""
        from mlflow import MlflowClient
        from mlflow.entities import Param

        place = os.environ.get("MLFLOW_TRACKING_URI")
        if not place:
            logging.getLogger("mlflow.store").setLevel(logging.WARNING)  # else it tells of each table that it makes
            place = f"sqlite:///{run.folder / STORE}"
        self._client: MlflowClient = MlflowClient(tracking_uri=place)
        self._known: dict[str, set[int]] = {}
        self._is_resumed = run.id is not None
        if run.id is not None:
            self._id = run.id
            self._client.update_run(run.id, status="RUNNING")
            return run.id
        made = self._client.create_run(self._experiment(run), run_name=run.name)
        self._id = str(made.info.run_id)
        parameters = [Param(name, str(value)) for name, value in run.settings.items()]
        for start in range(0, len(parameters), _MOST_PARAMETERS):
            self._client.log_batch(self._id, params=parameters[start : start + _MOST_PARAMETERS])
        return self._id

    def log(self, points: Sequence[Point]) -> None:
        """Send the points, but those that a resumed run has already."""
        from mlflow.entities import Metric, RunTag

        now = time.time_ns() // 1_000_000
        metrics = [
            Metric(name, value, now, point.step)
            for point in points
            for name, value in point.figures.items()
            if point.step not in self._steps(name)
        ]
        for start in range(0, len(metrics), _MOST_METRICS):
            self._client.log_batch(self._id, metrics=metrics[start : start + _MOST_METRICS])
        if tags := [RunTag(name, text) for point in points for name, text in point.tags.items()]:
            self._client.log_batch(self._id, tags=tags)

    def close(self, *, complete: bool) -> None:
        """Mark the run as finished, or as killed where it is not at its end."""
        self._client.set_terminated(self._id, "FINISHED" if complete else "KILLED")

    def _experiment(self, run: TrackedRun) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or _EXPERIMENT
        known = self._client.get_experiment_by_name(name)
        if known is not None:
            return str(known.experiment_id)
        is_local = not os.environ.get("MLFLOW_TRACKING_URI")
        return str(self._client.create_experiment(name, (run.folder / "artifacts").as_uri() if is_local else None))

    def _steps(self, name: str) -> set[int]:
        """Steps that a figure had when the run was resumed."""
        if not self._is_resumed:
            return set()
        if name not in self._known:
            self._known[name] = {metric.step for metric in self._client.get_metric_history(self._id, name)}
        return self._known[name]
