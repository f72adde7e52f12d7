"""The relapse matrix: the accuracy on what each request forgot, after every later event."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import altair

from fed_unlearn.simulations.report.charts.chart import Chart
from fed_unlearn.simulations.report.charts.look import (
    INK,
    RED,
    Panel,
    Rows,
    chart_of,
    faded,
    finished,
    layered,
    number,
    with_texts,
)
from fed_unlearn.simulations.report.charts.words import (
    counted,
    distinct,
    listed,
    percent,
    request_fields,
    samples_word,
    short_ids,
)
from fed_unlearn.simulations.run.results import RequestResult, RunResults
from fed_unlearn.strategies.worn_off import worn_off_at

_PALEST, _DARKEST = "#EEF4FA", "#08306B"
_CELL, _WIDEST_CELL, _LETTER = 27, 56, 7
"""Pixels: width of a cell with room for a number such as 0.25, of the widest one, and of a letter of an event."""

_LEAST = 0.005
"""The least number that two decimals show."""
_SHORT = (
    f"datum.accuracy > 0 && datum.accuracy < {_LEAST} ? '>0' : "
    f"datum.accuracy < 1 && datum.accuracy >= {1 - _LEAST} ? '<1' : format(datum.accuracy, '.2f')"
)
"""A number with two decimals, which never makes 0 or 1 of another number."""

_LEGEND = "accuracy on what was forgotten"
_CAPTION = (
    "Each row is a request, each column a later event, and the number is the accuracy on what was forgotten: on test "
    "{samples} of its classes, or else on the training samples that it names. Empty cells were not measured."
)
_RELAPSED = " A red frame marks a request that had relapsed."
_NEARLY = " A cell with >0 or <1 holds a number that two decimals would make 0 or 1."
_UNBOUND = " Rows marked with * ask for no low accuracy: what other samples teach of theirs may stay."


def relapse(results: RunResults) -> Chart | None:
    """The accuracy on what was forgotten, request by later event. None where nothing was measured after a request."""
    cells = list(_cells(results))
    if not cells:
        return None
    measured = {cell["number"] for cell in cells}
    requests = [request for number, request in enumerate(results.requests) if number in measured]
    return Chart(
        name="relapse",
        title="Does it stay forgotten?",
        caption=_CAPTION.format(samples=samples_word(results)) + "".join(_notes(requests, cells)),
        alternative=_alternative(results, cells),
        spec=_drawn(cells, "label", 19),
        narrow_spec=_drawn(cells, "request", 8),
        requests=tuple(request.id for request in requests),
    )


def _notes(requests: Sequence[RequestResult], cells: Rows) -> Iterator[str]:
    """What the caption says only where the chart shows it."""
    values = [float(str(cell["accuracy"])) for cell in cells]
    if any(cell["relapsed"] for cell in cells):
        yield _RELAPSED
    if any(0 < value < _LEAST or 1 - _LEAST <= value < 1 for value in values):
        yield _NEARLY
    if any(_is_unbound(request) for request in requests):
        yield _UNBOUND


def _drawn(cells: Rows, named_by: str, most: int) -> Mapping[str, object]:
    """The matrix in blocks of at most so many events, one below the other."""
    events = {int(str(cell["place"])): str(cell["event"]) for cell in cells}
    places = sorted(events)
    length = math.ceil(len(places) / math.ceil(len(places) / most))
    blocks = []
    for start in range(0, len(places), length):
        here = places[start : start + length]
        rows = {cell["number"]: str(cell[named_by]) for cell in cells if cell["place"] in here}
        width = min(_WIDEST_CELL, most * _CELL // length)
        blocks.append(_block(here, [events[place] for place in here], named_by, list(rows.values()), width))
    return finished({"vconcat": blocks, "spacing": 16}, {"cells": cells})


def _block(places: Sequence[int], events: Sequence[str], named_by: str, names: Sequence[str], width: int) -> Panel:
    beside = altair.Axis(ticks=False, domain=False, labelLimit=180 if named_by == "label" else 64)
    row = altair.Y(f"{named_by}:N", scale=altair.Scale(domain=list(names)), title=None, axis=beside)
    upright = _LETTER * max(map(len, events)) <= width
    below = altair.Axis(ticks=False, domain=False, labelAngle=0 if upright else -90, labelLimit=80)
    column = altair.X("event:N", scale=altair.Scale(domain=list(events)), title="after", axis=below)
    shades = altair.Scale(domain=[0, 1], range=[_PALEST, _DARKEST])
    legend = altair.Legend(orient="bottom", title=_LEGEND, gradientLength=180, values=[0, 0.5, 1])
    tooltip = [
        altair.Tooltip("request:N"),
        altair.Tooltip("forgets:N"),
        altair.Tooltip("event:N", title="after"),
        number("accuracy"),
        altair.Tooltip("measured on:N"),
        altair.Tooltip("relapsed:N"),
    ]
    ink = altair.condition(altair.datum.accuracy > 0.45, altair.value("white"), altair.value(INK))
    here = altair.FieldRangePredicate(field="place", range=[places[0], places[-1]])
    cells = with_texts(chart_of("cells", "rect", stroke="white", strokeWidth=1), "accuracy")
    frames = chart_of("cells", "rect", filled=False, stroke=RED, strokeWidth=3)
    numbers = chart_of("cells", "text", baseline="middle").transform_calculate(shown=_SHORT)
    colour = altair.Color("accuracy:Q", scale=shades, legend=legend)
    layers = [
        cells.encode(column, row, colour, opacity=faded(), tooltip=tooltip),
        frames.transform_filter(altair.FieldEqualPredicate(field="relapsed", equal=True)).encode(column, row),
        numbers.encode(column, row, altair.Text("shown:N"), color=ink, opacity=faded()),
    ]
    shown = [layer.transform_filter(here) for layer in layers]
    return layered(*shown, width={"step": width}, height={"step": 22})


def _cells(results: RunResults) -> Iterator[dict[str, object]]:
    """A cell for each accuracy that was measured, request by request in the order of the run."""
    fields, events = request_fields(results), _event_labels(results)
    for request in results.requests:
        mark = "*" if _is_unbound(request) else ""
        known = fields[request.id]
        names = {**known, "request": f"{known['request']}{mark}", "label": f"{known['label']}{mark}"}
        for place, row in enumerate(results.relapse):
            on_test = request.id in row.test_forget_accuracy
            values = row.test_forget_accuracy if on_test else row.forget_accuracy
            if request.id in values:
                yield {
                    **names,
                    "place": place,
                    "event": events[place],
                    "accuracy": values[request.id],
                    "measured on": f"test {samples_word(results)}" if on_test else "forget set",
                    "relapsed": request.id in row.relapsed,
                }


def _event_labels(results: RunResults) -> list[str]:
    named = short_ids(results)
    return distinct([named.get(row.after, row.after) for row in results.relapse], 14)


def _is_unbound(request: RequestResult) -> bool:
    return request.scope == "client" or request.goal == "indistinguishable"


def _alternative(results: RunResults, cells: Rows) -> str:
    parts = []
    for place in dict.fromkeys(int(str(cell["number"])) for cell in cells):
        later = [cell for cell in cells if cell["number"] == place]
        label = later[0]["request"]
        highest = max(later, key=lambda cell: float(str(cell["accuracy"])))
        words = f"{label} at most {percent(float(str(highest['accuracy'])))}, after {highest['event']}"
        stands = ""
        if any(cell["relapsed"] for cell in later):
            has_worn_off = worn_off_at(results.relapse, results.requests[place].id) is not None
            stands = ", relapsed" if has_worn_off else ", had relapsed, and holds again"
        parts.append(words + stands)
    return f"Matrix of {counted(len(parts))} by later events, accuracy on what was forgotten: {listed(parts)}."
