"""What all charts have in common: colours, shapes, fonts and sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import altair

Rows = Sequence[Mapping[str, object]]
Panel = Mapping[str, object]

CHOSEN = "chosen"
"""Parameter of all charts: the place in the run, counted from 0, of the request that stands out, or -1."""

_UNIT = ("data", "transform", "mark", "encoding")

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
    # The renderer measures the first; the others are about as wide, so that nothing overlaps where it is missing.
    "font": "Liberation Sans, Arial, Helvetica, Nimbus Sans, DejaVu Sans Condensed, sans-serif",
    "aria": False,  # the picture has one text as a whole; a text for each mark would be ten times as long
    "view": {"stroke": None},
    "axis": {
        "labelFontSize": SMALL,
        "labelFlush": False,
        "labelPadding": 5,
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
        "labelLimit": 280,
        "columnPadding": 16,
    },
    "header": {"labelFontSize": 12, "labelFontWeight": "bold", "labelColor": INK},
    "title": {"fontSize": 14, "offset": 10, "anchor": "start", "color": INK},
    "text": {"fontSize": SMALL, "color": INK},
}


def finished(body: Panel, rows: Mapping[str, Rows]) -> Mapping[str, object]:
    """A whole specification: one panel or several, the common look, and the rows that marks read, by name."""
    version: dict[str, object] = {
        "$schema": altair.SCHEMA_URL,
        "background": "white",
        "config": _CONFIG,
        "padding": {"left": 8, "right": 6, "top": 4, "bottom": 4},
        "params": [{"name": CHOSEN, "value": -1}],
    }
    return {**version, **body, "datasets": {name: [dict(row) for row in several] for name, several in rows.items()}}


def layered(*layers: altair.Chart, **properties: object) -> Panel:
    """A panel of several charts, one over the other.

    Altair's own ``layer`` copies and checks all of its charts again and again. That takes seconds where a run has many
    requests, so panels are put together here. The tests check all specifications against the schema.
    """
    drawn = [chart.to_dict(validate=False) for chart in layers]
    return {"layer": [{key: unit[key] for key in _UNIT if key in unit} for unit in drawn], **properties}


def heading(text: str) -> Panel:
    """The title of a panel."""
    return {"text": text, "fontSize": 12, "anchor": "middle"}


def chart_of(name: str, mark: str, **look: object) -> altair.Chart:
    """A chart of the rows with this name, still without encodings."""
    return altair.Chart(altair.NamedData(name), mark=altair.MarkDef(mark, **look))  # type: ignore[arg-type]


def faded(full: float = 1.0) -> altair.OpacityValue:
    """The opacity of marks: `full`, or faint where the page has chosen another request."""
    chosen = {"test": f"{CHOSEN} < 0 || datum.number === {CHOSEN}", "value": full}
    return altair.OpacityValue(full / 8, condition=chosen)


def number(field: str, title: str | None = None) -> altair.Tooltip:
    """A tooltip of a number, as text. The chart needs :func:`with_texts`."""
    return altair.Tooltip(f"{field} text:N", title=title or field)


def with_texts(chart: altair.Chart, *fields: str) -> altair.Chart:
    """Let a chart write numbers as :func:`~fed_unlearn.rounding.rounded_text` does.

    The numbers are fractions. A format of Vega alone would write 0.9996 as 1.000.
    """
    return chart.transform_calculate(**{f"{field} text": _as_text(f"datum['{field}']") for field in fields})


def _as_text(value: str) -> str:
    few, many = f"format({value}, '.3f')", f"format(clamp({value}, 1e-4, 1 - 1e-4), '.4~f')"
    hides = f"({value} > 1e-9 && {value} < 0.0005) || ({value} >= 0.9995 && {value} < 1 - 1e-9)"
    return f"isValid({value}) ? ({hides} ? {many} : {few}) : null"


def scale_of(values: Mapping[str, object], used: Iterable[object]) -> altair.Scale:
    """The scale of a legend, with those values only that are used."""
    names = set(used)
    shown = {name: value for name, value in values.items() if name in names}
    return altair.Scale(domain=list(shown), range=list(shown.values()))  # type: ignore[arg-type]
