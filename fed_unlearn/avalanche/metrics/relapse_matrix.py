"""The relapse matrix as a value that each of Avalanche's loggers shows in its own way."""

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
    """One row: what happened, and the forget accuracy of every request served by then.

    Attributes
    ----------
    after : str
        A request's id, several joined by ``+`` where they were served together, or a training experience:
        ``"train:2"``.
    forget_accuracy : mapping of int to float
        Top-1 on D_f by the request's number in the forget stream.
    """

    after: str
    forget_accuracy: Mapping[int, float]


class RelapseMatrix(AlternativeValues):
    """Forget accuracy of every request (columns) after every event since the first request (rows).

    TensorBoard shows it as a figure, other loggers as a tensor, the text loggers as a table. A request has no figure
    (not a number, blank) before it was served, or where none of its samples had arrived.

    Parameters
    ----------
    events : sequence of RelapseEvent
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
        """The figure where figures are shown, drawn only then; else the tensor, or None."""
        if any(issubclass(Figure, kind) for kind in supported_types):
            return self.figure()
        return super().best_supported_value(*supported_types)

    def figure(self) -> Figure:
        """The matrix as an image, accuracies written into its cells; no window or pyplot state is involved."""
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
        """A table with a line for each event."""
        columns, widest = list(self.requests.values()), max((len(event.after) for event in self.events), default=0)
        widths = [max(len(name), 6) for name in columns]
        lines = [" " * widest + "".join(f"  {name:>{width}}" for name, width in zip(columns, widths, strict=True))]
        for event, values in zip(self.events, self.tensor.tolist(), strict=True):
            cells = ("" if math.isnan(value) else f"{value:.4f}" for value in values)
            row = "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
            lines.append(f"{event.after:<{widest}}{row}".rstrip())
        return "\n" + "\n".join(lines)
