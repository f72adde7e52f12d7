"""The figure of ``fed-unlearn bench methods``: accuracy on forgotten and on other data, and cost."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from fed_unlearn.checkpoints import write_atomically
from fed_unlearn.simulations.bench.results import (
    ORACLE,
    ORIGINAL,
    REPAIR,
    REPAIRED_SUFFIX,
    MethodBenchReport,
    MethodRow,
)
from fed_unlearn.simulations.bench.table import bench_title, short_count

FILE_NAME = "methods.png"

# The palette of Okabe and Ito without yellow. When the colours are used up, the next marker begins.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "v", "P", "X")
_MARKED = {ORIGINAL: ("black", "*", 260.0), ORACLE: ("black", "D", 90.0)}
_SMALLEST, _LARGEST = 30.0, 420.0  # areas of markers, in square points
_DPI = 150


def write_method_figure(report: MethodBenchReport, folder: Path) -> Path | None:
    """Draw all models of a comparison that were measured.

    Parameters
    ----------
    report : MethodBenchReport
    folder : Path
        Folder of the figure, made if it does not exist. The figure is written in one step.

    Returns
    -------
    Path or None
        The path of ``methods.png``, or None if no model was measured.
    """
    rows = [row for row in report.rows if row.forget_accuracy is not None and row.test_retain_accuracy is not None]
    if not rows:
        return None
    content = io.BytesIO()
    _draw(report, rows).savefig(content, dpi=_DPI, format="png")
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FILE_NAME, content.getvalue())
    return folder / FILE_NAME


def _draw(report: MethodBenchReport, rows: Sequence[MethodRow]) -> Figure:
    figure = Figure(figsize=(9.0, 5.8), layout="constrained", dpi=_DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    looks = _looks(rows)
    sizes = _Sizes([row.passes for row in rows if _base(row) not in _MARKED])
    for row in sorted(rows, key=lambda row: -_area(row, sizes)):  # small markers are drawn last, on top
        colour, marker = looks[_base(row)]
        is_open = not row.is_repaired and _base(row) not in (*_MARKED, REPAIR)
        fill = "none" if is_open else to_rgba(colour, 1.0 if _base(row) in _MARKED else 0.4)
        axes.scatter(*_place(row), s=_area(row, sizes), marker=marker, facecolors=fill, edgecolors=colour,
                     linewidths=1.5, zorder=3, clip_on=False)  # fmt: skip
    _join(axes, rows, looks)
    axes.set_xlabel("accuracy on the forget set (training samples)")
    axes.set_ylabel("accuracy on test samples of the other classes" if report.scope == "class" else "test accuracy")
    axes.margins(x=0.08, y=0.12)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    figure.suptitle(bench_title(report))
    _explain(figure, rows, sizes)
    figure.draw_without_rendering()  # fixes the layout, which must be known to place labels
    figure.set_layout_engine("none")
    _label(figure, axes, rows, looks, sizes)
    return figure


class _Sizes:
    """Areas of markers by sample passes. The scale is logarithmic, since costs differ by orders of magnitude."""

    def __init__(self, passes: Sequence[int | None]) -> None:
        logarithms = [math.log10(count) for count in passes if count]
        self.low, self.high = (min(logarithms), max(logarithms)) if logarithms else (0.0, 0.0)

    def area(self, passes: int | None) -> float:
        if not passes:
            return _SMALLEST
        span = self.high - self.low
        share = (math.log10(passes) - self.low) / span if span else 0.0
        return _SMALLEST + share * (_LARGEST - _SMALLEST)

    def examples(self) -> list[int]:
        """The smallest, middle and largest cost, each with two digits."""
        ends = dict.fromkeys((self.low, (self.low + self.high) / 2, self.high))
        return [int(float(f"{10**end:.1e}")) for end in ends if end > 0]


def _base(row: MethodRow) -> str:
    return ORACLE if row.is_oracle else row.method.removesuffix(REPAIRED_SUFFIX)


def _area(row: MethodRow, sizes: _Sizes) -> float:
    return _MARKED[_base(row)][2] if _base(row) in _MARKED else sizes.area(row.passes)


def _place(row: MethodRow) -> tuple[float, float]:
    return row.forget_accuracy or 0.0, row.test_retain_accuracy or 0.0


def _looks(rows: Sequence[MethodRow]) -> dict[str, tuple[str, str]]:
    """The colour and marker of every method."""
    looks = {name: (colour, marker) for name, (colour, marker, _) in _MARKED.items()}
    looks[REPAIR] = ("#777777", "o")
    others = dict.fromkeys(_base(row) for row in rows if _base(row) not in looks)
    for number, name in enumerate(others):
        looks[name] = (_COLOURS[number % len(_COLOURS)], _MARKERS[number // len(_COLOURS) % len(_MARKERS)])
    return looks


def _join(axes: Axes, rows: Sequence[MethodRow], looks: dict[str, tuple[str, str]]) -> None:
    """Draw a thin line from every method to the same method with guarded repair."""
    alone = {row.method: row for row in rows}
    for row in rows:
        if row.is_repaired and _base(row) in alone:
            ends = (_place(alone[_base(row)]), _place(row))
            axes.plot(*zip(*ends, strict=True), color=looks[_base(row)][0], linewidth=0.9, alpha=0.7, zorder=2)


def _explain(figure: Figure, rows: Sequence[MethodRow], sizes: _Sizes) -> None:
    handles = list[Line2D]()
    if any(row.is_repaired for row in rows):
        for label, fill in (("method alone", "white"), (f"with {REPAIR}", "#bbbbbb")):
            handles.append(Line2D([], [], linestyle="", marker="o", color="#777777", markerfacecolor=fill, label=label))
    for count in sizes.examples():
        handles.append(
            Line2D([], [], linestyle="", marker="o", color="#777777", markerfacecolor="white",
                   markersize=math.sqrt(sizes.area(count)), label=f"{short_count(count)} passes")
        )  # fmt: skip
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9,
                      title="sample passes, a backward pass counted as two forward", title_fontsize=9,
                      handletextpad=0.8, borderpad=0.8, columnspacing=2.0)  # fmt: skip


def _label(
    figure: Figure, axes: Axes, rows: Sequence[MethodRow], looks: dict[str, tuple[str, str]], sizes: _Sizes
) -> None:
    """Write every method's name beside its first marker, so that it covers no marker and no other name."""
    scale = _DPI / 72
    reaches = [math.sqrt(_area(row, sizes)) / 2 for row in rows]
    centres = [axes.transData.transform(_place(row)) for row in rows]
    taken = [
        Bbox.from_extents(x - reach * scale, y - reach * scale, x + reach * scale, y + reach * scale)
        for (x, y), reach in zip(centres, reaches, strict=True)
    ]
    frame, oracle_is_named = axes.get_window_extent(), False
    for row, reach, (x, y) in zip(rows, reaches, centres, strict=True):
        if row.is_repaired or (row.is_oracle and oracle_is_named):
            continue
        oracle_is_named |= row.is_oracle
        colour = looks[_base(row)][0]
        text = axes.annotate(_base(row), _place(row), xytext=(0, 0), textcoords="offset points", fontsize=9,
                             color=colour, ha="center", va="center", zorder=5,
                             path_effects=[withStroke(linewidth=2.5, foreground="white")])  # fmt: skip
        width, height = text.get_window_extent().width + 4, text.get_window_extent().height + 2
        best, least, ring = (0.0, 0.0), math.inf, 0
        for number, right, up in _places(reach, width / scale, height / scale):
            middle_x, middle_y = x + right * scale, y + up * scale
            box = Bbox.from_bounds(middle_x - width / 2, middle_y - height / 2, width, height)
            covered = sum(_shared(box, other) for other in taken) + 3 * (width * height - _shared(box, frame))
            if covered < least - 1e-6:
                best, least, ring, chosen = (right, up), covered, number, box
            if covered < 1:
                break
        text.set_position(best)
        taken.append(chosen)
        if ring:  # the name is far from its marker: a line connects them
            end = (x + best[0] * scale, y + best[1] * scale)
            data = axes.transData.inverted().transform([(x, y), end])
            axes.plot(data[:, 0], data[:, 1], color=colour, linewidth=0.5, alpha=0.7, zorder=4, scalex=False,
                      scaley=False)  # fmt: skip


def _places(reach: float, width: float, height: float) -> Iterator[tuple[int, float, float]]:
    """Places for the middle of a name around a marker, in points from its centre: ring by ring, right side first."""
    for ring in range(14):
        distance = reach + 2 + 10 * ring
        for degrees in (0, 20, -20, 45, -45, 90, -90, 180, 160, -160, 135, -135):
            right, up = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
            yield ring, right * distance + round(right) * width / 2, up * distance + round(up) * height / 2


def _shared(first: Bbox, second: Bbox) -> float:
    common = Bbox.intersection(first, second)
    return 0.0 if common is None else common.width * common.height
