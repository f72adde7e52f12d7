"""What each request cost: its sample passes by part, and in all beside those of the retrain oracle."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import altair

from fed_unlearn.rounding import rounded_text
from fed_unlearn.simulations.report.charts.chart import Chart
from fed_unlearn.simulations.report.charts.look import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    YELLOW,
    Panel,
    Rows,
    chart_of,
    faded,
    finished,
    layered,
    scale_of,
)
from fed_unlearn.simulations.report.charts.words import counted, listed, request_fields, short_ids
from fed_unlearn.simulations.run.results import RequestResult, RunResults

_PARTS = {"unlearn": ORANGE, "repair": SKY, "audit": PURPLE, "train": YELLOW, "other": GREY}
_SIDES = {"request": BLUE, "oracle": GREEN}
_SHAPES = {"request": "square", "oracle": "diamond"}
_NUMBER = "format(datum.value, '~s')"
_CAPTION = "Bars are the sample passes of each request by what they were for; a backward pass counts as two forward."
_BESIDE = (
    " Marks compare all of them with the passes of the oracle, on a scale where each step is a factor of ten; the "
    "numbers tell how many times the request's passes the oracle needed."
)


def cost(results: RunResults) -> Chart | None:
    """Sample passes of each request, beside retraining. None where no request needed any."""
    paid = [request for request in results.requests if request.passes > 0]
    if not paid:
        return None
    compared = any(request.oracle_passes for request in paid)
    return Chart(
        name="cost",
        title="What forgetting costs",
        caption=_CAPTION + (_BESIDE if compared else ""),
        alternative=f"Sample passes of {counted(len(paid))}: {_alternative(results, paid)}.",
        spec=_drawn(results, paid, "label", 225 if compared else 480),
        narrow_spec=_drawn(results, paid, "request", 190),
        requests=tuple(request.id for request in paid),
    )


def _drawn(results: RunResults, paid: Sequence[RequestResult], named_by: str, width: int) -> Mapping[str, object]:
    fields = request_fields(results)
    parts, totals = _part_rows(paid, fields), _total_rows(paid, fields)
    compared = [row for row in totals if row["side"] == "oracle"]
    rows: dict[str, Rows] = {"parts": parts, "totals": totals}
    domain = [str(fields[request.id][named_by]) for request in paid]
    beside = named_by == "label"
    named = _row(named_by, domain, 180 if beside else 64)
    bars = _bars([str(row["part"]) for row in parts], named, width)
    if not compared:
        return finished(bars, rows)
    marks = _marks(totals, _row(named_by, domain, 0) if beside else named, width)
    apart = {"scale": {"color": "independent", "shape": "independent"}}
    return finished({"concat": [bars, marks], "columns": 2 if beside else 1, "spacing": 16, "resolve": apart}, rows)


def _row(named_by: str, domain: Sequence[str], limit: int) -> altair.Y:
    """A row for each request, with its name in at most so many pixels."""
    axis = altair.Axis(labels=limit > 0, ticks=False, domain=False, labelLimit=limit)
    return altair.Y(f"{named_by}:N", scale=altair.Scale(domain=list(domain), padding=0.15), title=None, axis=axis)


def _bars(used: Sequence[str], row: altair.Y, width: int) -> Panel:
    legend = altair.Legend(orient="bottom", title=None, columns=5, symbolType="square")
    axis = altair.Axis(labelExpr=_NUMBER, tickCount=4)
    passes = altair.X("passes:Q", title="sample passes of the request", axis=axis)
    tooltip = [
        altair.Tooltip("request:N"),
        altair.Tooltip("forgets:N"),
        altair.Tooltip("part:N"),
        altair.Tooltip("passes:Q", format=","),
    ]
    bars = chart_of("parts", "bar", stroke="white", strokeWidth=0.5)
    colour = altair.Color("part:N", scale=scale_of(_PARTS, used), legend=legend)
    drawn = bars.encode(passes, row, colour, altair.Order("place:Q"), opacity=faded(), tooltip=tooltip)
    return layered(drawn, width=width, height={"step": 18})


def _marks(totals: Rows, row: altair.Y, width: int) -> Panel:
    """All passes of each request and of its oracle on one logarithmic scale, with their ratio."""
    powers = [math.log10(float(str(row["passes"]))) for row in totals]
    decades = [10**power for power in range(math.floor(min(powers)), math.ceil(max(powers)) + 1)]
    scale = altair.Scale(type="log", domain=[decades[0], decades[-1]], nice=False)
    axis = altair.Axis(labelExpr=_NUMBER, values=decades)
    passes = altair.X("passes:Q", scale=scale, title="all passes, logarithmic", axis=axis)
    tooltip = [
        altair.Tooltip("request:N"),
        altair.Tooltip("forgets:N"),
        altair.Tooltip("side:N", title="passes of"),
        altair.Tooltip("passes:Q", format=","),
        altair.Tooltip("times:N", title="passes of the oracle for one of the request"),
    ]
    legend = altair.Legend(orient="bottom", title=None)
    points = chart_of("totals", "point", filled=True, size=50)
    compared = altair.FieldValidPredicate(field="own", valid=True)
    spans = chart_of("totals", "rule", color="#BBBBBB", strokeWidth=2).transform_filter(compared)
    ratios = chart_of("totals", "text", align="right").transform_filter(compared)
    return layered(
        spans.encode(passes, row, altair.X2("own"), opacity=faded()),
        points.encode(
            passes,
            row,
            altair.Color("side:N", scale=scale_of(_SIDES, _SIDES), legend=legend),
            altair.Shape("side:N", scale=scale_of(_SHAPES, _SIDES), legend=legend),
            opacity=faded(),
            tooltip=tooltip,
        ),
        ratios.encode(row, altair.Text("times:N"), x=altair.value(width + 46), opacity=faded()),
        width=width,
        height={"step": 18},
    )


def _part_rows(paid: Sequence[RequestResult], fields: Mapping[str, Mapping[str, object]]) -> Rows:
    rows = []
    for request in paid:
        parts = request.passes_by_part or {"other": request.passes}
        for part, passes in parts.items():
            name = part if part in _PARTS else "other"
            rows.append({**fields[request.id], "part": name, "passes": passes, "place": list(_PARTS).index(name)})
    return rows


def _total_rows(paid: Sequence[RequestResult], fields: Mapping[str, Mapping[str, object]]) -> Rows:
    rows: list[dict[str, object]] = []
    for request in paid:
        row = fields[request.id]
        rows.append({**row, "side": "request", "passes": request.passes})
        if request.oracle_passes:
            oracle = {"side": "oracle", "passes": request.oracle_passes, "own": request.passes}
            rows.append({**row, **oracle, "times": _times(request)})
    return rows


def _times(request: RequestResult) -> str:
    return "" if request.pass_ratio is None else f"{rounded_text(request.pass_ratio, 1)}x"


def _alternative(results: RunResults, paid: Sequence[RequestResult]) -> str:
    named, parts = short_ids(results), []
    for request in paid:
        words = f"{named[request.id]} {request.passes:,}"
        if request.oracle_passes:
            words += f", its oracle {request.oracle_passes:,}"
        parts.append(words)
    return listed(parts)
