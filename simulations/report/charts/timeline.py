"""The timeline: test accuracy over all rounds, and every request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair

from fed_unlearn.simulations.report.charts.chart import Chart
from fed_unlearn.simulations.report.charts.look import (
    BLUE,
    GREY,
    INK,
    NARROW,
    PURPLE,
    RED,
    Rows,
    chart_of,
    finished,
    scale_of,
)
from fed_unlearn.simulations.report.charts.words import (
    COMMITTED,
    FAILED,
    OPEN,
    REJECTED,
    listed,
    outcome_of,
    percent,
    row_labels,
    short_ids,
    target_of,
)
from fed_unlearn.simulations.run.results import RunResults

_COLOURS = {COMMITTED: INK, FAILED: RED, REJECTED: PURPLE, OPEN: GREY}
_DASHES: dict[str, object] = {COMMITTED: [1, 0], FAILED: [6, 3], REJECTED: [2, 2], OPEN: [1, 3]}
_SHAPES = {COMMITTED: "circle", FAILED: "cross", REJECTED: "diamond", OPEN: "triangle-up"}
_KEPT, _BEFORE, _AFTER = "retained classes", "forgotten, before", "forgotten, after"
_FILLS, _STROKES = {_KEPT: BLUE, _BEFORE: "white", _AFTER: PURPLE}, {_KEPT: BLUE, _BEFORE: PURPLE, _AFTER: PURPLE}
_MARKS = {_KEPT: "circle", _BEFORE: "square", _AFTER: "square"}
_CHANNELS = ("color", "fill", "stroke", "shape", "strokeDash")
_CAPTION = (
    "The line is the accuracy on test images of all classes that were not forgotten by then; squares are the "
    "forgotten classes before and after a request. Each request has a row, and a line leads from its round to it."
)


def timeline(results: RunResults) -> Chart | None:
    """Test accuracy over all rounds, with every request. None where no round was evaluated."""
    if not results.history:
        return None
    return Chart(
        name="timeline",
        title="Test accuracy over the run",
        caption=_CAPTION if results.requests else _CAPTION.partition(";")[0] + ".",
        alternative=_alternative(results),
        spec=_drawn(results, 500, 230, row_labels(results, 32), 190),
        narrow_spec=_drawn(results, 200, 200, row_labels(results, 18), 100),
        requests=tuple(request.id for request in results.requests),
    )


def _drawn(results: RunResults, width: int, height: int, labels: Mapping[str, str], limit: int) -> Mapping[str, object]:
    points, requests = _points(results), _request_rows(results, labels)
    rows: dict[str, Rows] = {
        "points": points,
        "retained": [point for point in points if point["series"] == _KEPT],
        "jumps": _jumps(points),
        "requests": [row for row in requests if "round" in row],
        "without": [row for row in requests if "round" not in row],
    }
    rounds = altair.X("round:Q").scale(domain=[0, results.history[-1].round], nice=False, padding=8)
    rounds = rounds.axis(tickMinStep=1).title("round (training, unlearning and repair)")
    upper = _accuracies(rows, rounds, narrow=width < NARROW).properties(width=width, height=height)
    if not requests:
        return finished(upper, rows)
    lower = _request_strip(rows, rounds, list(labels.values()), limit).properties(width=width)
    both = altair.vconcat(upper, lower.properties(height=altair.Step(17)), spacing=0)
    return finished(both.resolve_scale(**dict.fromkeys(_CHANNELS, "independent")), rows)


def _accuracies(rows: Mapping[str, Rows], rounds: altair.X, *, narrow: bool) -> altair.LayerChart:
    """The panel of accuracies, with a line at the round of each request."""
    marked = bool(rows["requests"] or rows["without"])
    at = rounds.title(None).axis(labels=False, ticks=False, tickMinStep=1) if marked else rounds
    accuracy = altair.Y("accuracy:Q").scale(domain=[0, 1]).title("test accuracy")
    used = [point["series"] for point in rows["points"]]
    legend = altair.Legend(orient="top", title=None, columns=2 if narrow else 3, symbolStrokeWidth=1.5)
    marks = chart_of("points").mark_point(opacity=1, size=36, strokeWidth=1.5)
    points = marks.encode(
        at,
        accuracy,
        altair.Fill("series:N").scale(scale_of(_FILLS, used)).legend(legend),
        altair.Stroke("series:N").scale(scale_of(_STROKES, used)).legend(legend),
        altair.Shape("series:N").scale(scale_of(_MARKS, used)).legend(legend),
        tooltip=[
            altair.Tooltip("event:N"),
            altair.Tooltip("round:Q"),
            altair.Tooltip("series:N", title="classes"),
            altair.Tooltip("accuracy:Q", format=".3f", title="test accuracy"),
        ],
    )
    line = chart_of("retained").mark_line(color=BLUE).encode(at, accuracy)
    before = altair.Y("before:Q").scale(domain=[0, 1])
    jumps = chart_of("jumps").mark_rule(color=PURPLE, strokeWidth=1.5).encode(at, before, altair.Y2("after"))
    return altair.layer(_poles(rows, None).encode(at), line, jumps, points)


def _poles(rows: Mapping[str, Rows], legend: altair.Legend | None) -> altair.Chart:
    used = [row["outcome"] for row in rows["requests"]]
    colour = altair.Color("outcome:N").scale(scale_of(_COLOURS, used)).legend(legend)
    dash = altair.StrokeDash("outcome:N").scale(scale_of(_DASHES, used)).legend(legend)
    return chart_of("requests").mark_rule(opacity=0.65).encode(colour, dash)


def _request_strip(rows: Mapping[str, Rows], rounds: altair.X, labels: Sequence[str], limit: int) -> altair.LayerChart:
    """A row for each request, with a mark at its round."""
    used = [row["outcome"] for row in rows["requests"]]
    row = altair.Y("label:N").scale(domain=list(labels)).title(None)
    row = row.axis(grid=True, ticks=False, domain=False, labelLimit=limit, labelPadding=6)
    legend = altair.Legend(orient="bottom", title=None)
    marks = chart_of("requests").mark_point(size=60, opacity=1, filled=True)
    placed = marks.encode(
        rounds,
        row,
        altair.Color("outcome:N").scale(scale_of(_COLOURS, used)).legend(legend),
        altair.Shape("outcome:N").scale(scale_of(_SHAPES, used)).legend(legend),
        tooltip=[altair.Tooltip(f"{name}:N") for name in ("request", "forgets", "outcome", "method", "round")],
    )
    poles = _poles(rows, legend).encode(rounds, row, y2=altair.value(0))
    words = chart_of("without").mark_text(align="left", fontStyle="italic")
    return altair.layer(poles, placed, words.encode(row, altair.Text("outcome:N"), x=altair.value(6)))


def _points(results: RunResults) -> list[dict[str, object]]:
    before = {request.id: request.before for request in results.requests}
    named = short_ids(results)
    rows: list[dict[str, object]] = []
    for point in results.history:
        place = {"event": named.get(point.event, point.event), "round": point.round}
        rows.append({**place, "series": _KEPT, "accuracy": point.test_accuracy})
        known = before.get(point.event)
        if known is not None and known.test_forget_accuracy is not None and point.test_forget_accuracy is not None:
            rows.append({**place, "series": _BEFORE, "accuracy": known.test_forget_accuracy})
            rows.append({**place, "series": _AFTER, "accuracy": point.test_forget_accuracy})
    return rows


def _jumps(points: Rows) -> Rows:
    after = {point["event"]: point["accuracy"] for point in points if point["series"] == _AFTER}
    return [
        {"round": point["round"], "before": point["accuracy"], "after": after[point["event"]]}
        for point in points
        if point["series"] == _BEFORE
    ]


def _request_rows(results: RunResults, labels: Mapping[str, str]) -> list[dict[str, object]]:
    rounds = {point.event: point.round for point in results.history}
    named = short_ids(results)
    rows = []
    for request in results.requests:
        row: dict[str, object] = {
            "request": named[request.id],
            "label": labels[request.id],
            "forgets": target_of(request),
            "outcome": outcome_of(request),
            "method": request.method,
        }
        rows.append({**row, "round": rounds[request.id]} if request.id in rounds else row)
    return rows


def _alternative(results: RunResults) -> str:
    first, last = results.history[0], results.history[-1]
    start = f"Line chart of test accuracy over {last.round} rounds: {percent(first.test_accuracy)} in round "
    start += f"{first.round}, {percent(last.test_accuracy)} at the end."
    after = {point.event: point.test_forget_accuracy for point in results.history}
    parts = []
    for named, request in zip(short_ids(results).values(), results.requests, strict=True):
        words = f"{named}, {target_of(request)}, {outcome_of(request)}"
        known, value = request.before, after.get(request.id)
        if known is not None and known.test_forget_accuracy is not None and value is not None:
            words += f", forgotten classes from {percent(known.test_forget_accuracy)} to {percent(value)}"
        parts.append(words)
    return f"{start} Requests: {listed(parts)}." if parts else start
