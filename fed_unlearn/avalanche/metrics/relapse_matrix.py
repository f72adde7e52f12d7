"""The relapse matrix as a metric value for Avalanche's loggers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from avalanche.evaluation.metric_results import AlternativeValues
from matplotlib.figure import Figure
from torch import Tensor


@dataclass(frozen=True)
class RelapseEvent:
    """One row of the relapse matrix: the forget accuracies after one event.

    Attributes
    ----------
    after : str
        The event: the id of a request, ids joined by ``+`` of requests that were served together, or a training
        experience such as ``"train:2"``.
    forget_accuracy : mapping of int to float
        Top-1 on D_f by the request's number in the forget stream.
    """

    after: str
    forget_accuracy: Mapping[int, float]


class RelapseMatrix(AlternativeValues):
    """Forget accuracy of every request (columns) after every event since the first request (rows).

    TensorBoard shows a figure, the text loggers a table, other loggers a tensor. An entry is not a number, and blank in
    the table, if the request was not served yet or none of its samples had arrived.

    Parameters
    ----------
    events : sequence of RelapseEvent
        Events in the order of the rows.
    requests : mapping of int to str
        Ids of the requests by number, in the order of the columns.
    """

    def __init__(self, events: Sequence[RelapseEvent], requests: Mapping[int, str]) -> None:
        self.events = tuple(events)
        self.requests = dict(requests)
        rows = [[event.forget_accuracy.get(number, math.nan) for number in self.requests] for event in self.events]
        self.tensor: Tensor = torch.tensor(rows, dtype=torch.float64).reshape(len(self.events), len(self.requests))
        super().__init__(self.tensor)

    def best_supported_value(self, *supported_types: type) -> Any:
        """Return the figure if figures are supported, else the tensor if tensors are, else None."""
        if any(issubclass(Figure, kind) for kind in supported_types):
            return self.figure()
        return super().best_supported_value(*supported_types)

    def figure(self) -> Figure:
        """Return the matrix as an image with the accuracies written into the cells. Pyplot is not used."""
        columns, rows = list(self.requests.values()), [event.after for event in self.events]
        figure = Figure(figsize=(2 + 0.7 * len(columns), 1.5 + 0.4 * len(rows)), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(self.tensor.numpy(), cmap="viridis", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
        axes.set_yticks(range(len(rows)), rows)
        axes.set(xlabel="request", ylabel="after", title="forget accuracy")
        for row, values in enumerate(self.tensor.tolist()):
            for column, value in enumerate(values):
                if not math.isnan(value):
                    colour = "white" if value < 0.5 else "black"
                    axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour)
        figure.colorbar(image, ax=axes)
        return figure

    def __str__(self) -> str:
        """Return a table with one line per event."""
        columns, widest = list(self.requests.values()), max((len(event.after) for event in self.events), default=0)
        widths = [max(len(name), 6) for name in columns]
        lines = [" " * widest + "".join(f"  {name:>{width}}" for name, width in zip(columns, widths, strict=True))]
        for event, values in zip(self.events, self.tensor.tolist(), strict=True):
            cells = ("" if math.isnan(value) else f"{value:.4f}" for value in values)
            row = "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
            lines.append(f"{event.after:<{widest}}{row}".rstrip())
        return "\n" + "\n".join(lines)
