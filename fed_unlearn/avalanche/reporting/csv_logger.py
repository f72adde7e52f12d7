"""A logger for Avalanche that writes every scalar metric as one line of a CSV file."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from avalanche.evaluation.metric_results import AlternativeValues
from avalanche.logging import BaseLogger
from torch import Tensor

COLUMNS = ("x", "name", "value")


class ScalarCSVLogger(BaseLogger):
    """Writes lines ``x,name,value``: the step, the metric's full name, and its value in full precision.

    Avalanche's own ``CSVLogger`` writes accuracy, loss and forgetting only. This logger leaves out values that are no
    single number, such as matrices and figures. Lines are appended to a file that exists.

    Parameters
    ----------
    path : str or Path
        The file. Its folder is created.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file, lineterminator="\n")
        if self._file.tell() == 0:
            self._writer.writerow(COLUMNS)
            self._file.flush()

    def log_single_metric(self, name: str, value: Any, x_plot: int) -> None:
        """Write one line if the value is a number or has a number as an alternative."""
        if isinstance(value, AlternativeValues):
            value = value.best_supported_value(float, int)
        if isinstance(value, Tensor) and value.ndim == 0:
            value = value.item()
        if isinstance(value, float | int):
            self._writer.writerow((x_plot, name, repr(value)))

    def log_metrics(self, metric_values: list[Any]) -> None:
        """Write all values of one event and flush the file."""
        super().log_metrics(metric_values)
        if metric_values:
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
