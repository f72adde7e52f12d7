"""The relapse matrix: the accuracy on what each request forgot, after every later event."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import altair

from fed_unlearn.simulations.report.charts.chart import Chart
from fed_unlearn.simulations.report.charts.look import INK, RED, Rows, chart_of, finished
from fed_unlearn.simulations.report.charts.words import distinct, listed, percent, row_labels, short_ids
from fed_unlearn.simulations.run.results import RequestResult, RunResults

_PALEST, _DARKEST = "#EEF4FA", "#08306B"
_CELL = 27
"""Side of a cell in pixels: room for a number such as 0.25."""

_CAPTION = (
    "Each row is a request, each column a later event, and the number is the accuracy on what was forgotten: on test "
    "images of its classes, or else on the training samples that it names. Empty cells were not measured."
)
_RELAPSED = " A red frame marks a request that had relapsed."
_UNBOUND = " Rows marked with * ask for no low accuracy: what other samples teach of theirs may stay."


def relapse(results: RunResults) -> Chart | None:
    """The accuracy on what was forgotten, request by later event. None where nothing was measured after a request."""
    cells = list(_cells(results))
    if not cells:
        return None
    shown = {str(cell["id"]) for cell in cells}
    requests = [request for request in results.requests if request.id in shown]
    unbound, relapsed = any(_is_unbound(request) for request in requests), any(cell["relapsed"] for cell in cells)
    return Chart(
        name="relapse",
        title="Does it stay forgotten?",
        caption=_CAPTION + (_RELAPSED if relapsed else "") + (_UNBOUND if unbound else ""),
        alternative=_alternative(results, cells),
        spec=_drawn(results, cells, _marked(requests, row_labels(results, 30)), 19),
        narrow_spec=_drawn(results, cells, _marked(requests, short_ids(results, 9)), 8),
        requests=tuple(request.id for request in requests),
    )


def _drawn(results: RunResults, cells: Rows, labels: Mapping[str, str], most: int) -> Mapping[str, object]:
    """The matrix in blocks of at most so many events, one below the other."""
    events = _event_labels(results)
    blocks, rows = [], dict[str, Rows]()
    measured = list(dict.fromkeys(str(cell["event"]) for cell in cells))
    length = math.ceil(len(measured) / math.ceil(len(measured) / most))
    for start in range(0, len(measured), length):
        block = measured[start : start + length]
        here = [cell for cell in cells if cell["event"] in block]
        present = {cell["id"] for cell in here}
        name = f"events from {start + 1}"
        rows[name] = [
            {**cell, "event": events[str(cell["event"])], "request": labels[str(cell["id"])]} for cell in here
        ]
        domain = [label for request, label in labels.items() if request in present]
        blocks.append(_block(name, domain, [events[event] for event in block], last=start + length >= len(measured)))
    return finished(altair.vconcat(*blocks, spacing=16), rows)


def _block(name: str, requests: Sequence[str], events: Sequence[str], *, last: bool) -> altair.LayerChart:
    row = altair.Y("request:N").scale(domain=list(requests)).title(None)
    row = row.axis(ticks=False, domain=False, labelLimit=180, labelPadding=6)
    upright = max(map(len, events)) <= 3
    column = altair.X("event:N").scale(domain=list(events)).title("after" if last else None)
    column = column.axis(ticks=False, domain=False, labelAngle=0 if upright else -90, labelLimit=80)
    colour = altair.Color("accuracy:Q").scale(domain=[0, 1], range=[_PALEST, _DARKEST])
    legend = altair.Legend(
        orient="bottom", title="accuracy on what was forgotten", gradientLength=180, values=[0, 0.5, 1]
    )
    tooltip = [
        altair.Tooltip("request:N"),
        altair.Tooltip("event:N", title="after"),
        altair.Tooltip("accuracy:Q", format=".3f"),
        altair.Tooltip("measured on:N"),
        altair.Tooltip("relapsed:N"),
    ]
    cells = chart_of(name).mark_rect(stroke="white", strokeWidth=1)
    frames = chart_of(name).mark_rect(filled=False, stroke=RED, strokeWidth=3)
    numbers = chart_of(name).mark_text(baseline="middle")
    ink = altair.condition(altair.datum.accuracy > 0.45, altair.value("white"), altair.value(INK))
    return altair.layer(
        cells.encode(column, row, colour.legend(legend), tooltip=tooltip),
        frames.transform_filter(altair.FieldEqualPredicate(field="relapsed", equal=True)).encode(column, row),
        numbers.encode(column, row, altair.Text("accuracy:Q", format=".2f"), color=ink),
    ).properties(width=altair.Step(_CELL), height=altair.Step(22))


def _cells(results: RunResults) -> Iterator[dict[str, object]]:
    for row in results.relapse:
        for request in results.requests:
            on_test = request.id in row.test_forget_accuracy
            values = row.test_forget_accuracy if on_test else row.forget_accuracy
            if request.id in values:
                yield {
                    "id": request.id,
                    "event": row.after,
                    "accuracy": values[request.id],
                    "measured on": "test images" if on_test else "forget set",
                    "relapsed": request.id in row.relapsed,
                }


def _event_labels(results: RunResults) -> dict[str, str]:
    named = short_ids(results, 12)
    events = list(dict.fromkeys(row.after for row in results.relapse))
    return dict(zip(events, distinct([named.get(event, event) for event in events], 12), strict=True))


def _is_unbound(request: RequestResult) -> bool:
    return request.scope == "client" or request.goal == "indistinguishable"


def _marked(requests: Sequence[RequestResult], labels: Mapping[str, str]) -> dict[str, str]:
    return {request.id: labels[request.id] + ("*" if _is_unbound(request) else "") for request in requests}


def _alternative(results: RunResults, cells: Rows) -> str:
    named = short_ids(results)
    parts = []
    for request, label in named.items():
        later = [cell for cell in cells if cell["id"] == request]
        if later:
            highest = max(later, key=lambda cell: float(str(cell["accuracy"])))
            words = f"{label} at most {percent(float(str(highest['accuracy'])))}, after {highest['event']}"
            parts.append(words + (", relapsed" if any(cell["relapsed"] for cell in later) else ""))
    return f"Matrix of {len(parts)} requests by later events, accuracy on what was forgotten: {listed(parts)}."
