"""What all charts have in common: colours, shapes, fonts and sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair

Rows = Sequence[Mapping[str, object]]
Panels = altair.ConcatChart | altair.VConcatChart | altair.HConcatChart

# The palette of Okabe and Ito. People with any common kind of colour vision can distinguish its colours.
GREY, ORANGE, BLUE, GREEN = "#999999", "#E69F00", "#0072B2", "#009E73"
RED, PURPLE, SKY, YELLOW = "#D55E00", "#CC79A7", "#56B4E9", "#F0E442"
INK, FAINT = "#333333", "#E3E3E3"

MODELS = {"before": GREY, "unlearned": ORANGE, "after": BLUE, "oracle": GREEN}
MODEL_SHAPES = {"before": "circle", "unlearned": "triangle-up", "after": "square", "oracle": "diamond"}
MODEL_DASHES: dict[str, list[int]] = {"before": [2, 2], "unlearned": [1, 3], "after": [1, 0], "oracle": [7, 3]}

WIDE, NARROW = 720, 320
"""Greatest width of a chart in pixels, with its axes and legends."""

SMALL = 11
"""Size of the smallest letters in pixels."""

_CONFIG: dict[str, object] = {
    "font": "Liberation Sans, Arial, Helvetica, sans-serif",
    "aria": False,  # the picture has one text as a whole; a text for each mark would be ten times as long
    "view": {"stroke": None},
    "axis": {
        "labelFontSize": SMALL,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelColor": INK,
        "titleColor": INK,
        "domainColor": "#888888",
        "tickColor": "#888888",
        "gridColor": FAINT,
    },
    "legend": {
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelColor": INK,
        "titleColor": INK,
        "labelLimit": 260,
    },
    "header": {"labelFontSize": 12, "labelFontWeight": "bold", "labelColor": INK},
    "title": {"fontSize": 14, "anchor": "start", "color": INK},
    "text": {"fontSize": SMALL, "color": INK},
}


def finished(chart: altair.Chart | altair.LayerChart | Panels, rows: Mapping[str, Rows]) -> Mapping[str, object]:
    """The specification of a chart, with the common look and the rows that its marks read, by name."""
    spec: dict[str, Any] = chart.to_dict(validate=False)
    datasets = {name: [dict(row) for row in several] for name, several in rows.items()}
    return {**spec, "background": "white", "config": _CONFIG, "padding": 4, "datasets": datasets}


def chart_of(name: str) -> altair.Chart:
    """A chart, still without marks, of the rows with this name."""
    return altair.Chart(altair.NamedData(name))


def scale_of(values: Mapping[str, object], used: Iterable[object]) -> altair.Scale:
    """The scale of a legend, with those values only that are used."""
    names = set(used)
    shown = {name: value for name, value in values.items() if name in names}
    return altair.Scale(domain=list(shown), range=list(shown.values()))  # type: ignore[arg-type]
