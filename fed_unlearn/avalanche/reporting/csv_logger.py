"""A logger of Avalanche that writes every scalar metric as one line of a CSV file."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from avalanche.evaluation.metric_results import AlternativeValues
from avalanche.logging import BaseLogger
from torch import Tensor

COLUMNS = ("x", "name", "value")


class ScalarCSVLogger(BaseLogger):
    """Writes lines of ``x,name,value``: the step, the metric's whole name, and its value in full precision.

    Avalanche's own ``CSVLogger`` has columns for accuracy, loss and forgetting, and leaves all other metrics out.
    Values that are no single number (matrices, figures) are left out here. A file that is there already is gone on
    with.

    Parameters
    ----------
    path : str or Path
        The file; its folder is made.
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
        """Write one line, where the value is a number or can be shown as one."""
        if isinstance(value, AlternativeValues):
            value = value.best_supported_value(float, int)
        if isinstance(value, Tensor) and value.ndim == 0:
            value = value.item()
        if isinstance(value, float | int):
            self._writer.writerow((x_plot, name, repr(value)))

    def log_metrics(self, metric_values: list[Any]) -> None:
        """Write all values of one event, on disk afterwards."""
        super().log_metrics(metric_values)
        if metric_values:
            self._file.flush()

    def close(self) -> None:
        """Close the file; nothing can be written any more."""
        self._file.close()
