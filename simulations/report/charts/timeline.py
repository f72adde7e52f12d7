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
    faded,
    finished,
    layered,
    number,
    scale_of,
    with_texts,
)
from fed_unlearn.simulations.report.charts.words import (
    COMMITTED,
    FAILED,
    OPEN,
    REJECTED,
    listed,
    outcome_of,
    percent,
    request_fields,
    samples_word,
    short_ids,
    target_of,
)
from fed_unlearn.simulations.run.results import RunResults
from fed_unlearn.text import printable

_COLOURS = {COMMITTED: INK, FAILED: RED, REJECTED: PURPLE, OPEN: GREY}
_DASHES: dict[str, object] = {COMMITTED: [1, 0], FAILED: [6, 3], REJECTED: [2, 2], OPEN: [1, 3]}
_SHAPES = {COMMITTED: "circle", FAILED: "cross", REJECTED: "diamond", OPEN: "triangle-up"}
_KEPT, _BEFORE, _AFTER = "retained classes", "forgotten, before", "forgotten, after"
_FILLS, _STROKES = {_KEPT: BLUE, _BEFORE: "transparent", _AFTER: PURPLE}, {_KEPT: BLUE, _BEFORE: PURPLE, _AFTER: PURPLE}
_MARKS = {_KEPT: "circle", _BEFORE: "square", _AFTER: "square"}
_CHANNELS = ("color", "fill", "stroke", "shape", "strokeDash")
_CAPTION = (
    "The line is the accuracy on test {samples} of all classes that were not forgotten by then, over the rounds of "
    "training, unlearning and repair; squares are the forgotten classes before and after a request. Each request has "
    "a row, and a line leads from its round to it."
)


def timeline(results: RunResults) -> Chart | None:
    """Test accuracy over all rounds, with every request. None where no round was evaluated."""
    if not results.history:
        return None
    caption = _CAPTION.format(samples=samples_word(results))
    return Chart(
        name="timeline",
        title="Test accuracy over the run",
        caption=caption if results.requests else caption.partition(";")[0] + ".",
        alternative=_alternative(results),
        spec=_drawn(results, "label", 490, 230, limit=190),
        narrow_spec=_drawn(results, "request", 232, 200, limit=58),
        requests=tuple(request.id for request in results.requests),
    )


def _drawn(results: RunResults, named_by: str, width: int, height: int, *, limit: int) -> Mapping[str, object]:
    points, requests = _points(results), _request_rows(results)
    rows: dict[str, Rows] = {
        "points": points,
        "jumps": _jumps(points),
        "requests": [row for row in requests if "round" in row],
        "without": [row for row in requests if "round" not in row],
    }
    rounds = altair.Scale(domain=[0, results.history[-1].round], nice=False, padding=8)
    upper = layered(*_accuracies(rows, rounds, narrow=width < NARROW), width=width, height=height)
    if not requests:
        return finished(upper, rows)
    strip = _request_strip(rows, rounds, named_by, [str(row[named_by]) for row in requests], limit)
    lower = layered(*strip, width=width, height={"step": 17})
    apart = {"scale": dict.fromkeys(_CHANNELS, "independent")}
    return finished({"vconcat": [upper, lower], "spacing": 0, "resolve": apart}, rows)


def _at(rounds: altair.Scale, *, bare: bool) -> altair.X:
    """The axis of rounds; without words where another panel below has them."""
    if bare:
        return altair.X("round:Q", scale=rounds, title=None, axis=altair.Axis(labels=False, ticks=False, tickMinStep=1))
    return altair.X("round:Q", scale=rounds, title="round", axis=altair.Axis(tickMinStep=1))


def _accuracies(rows: Mapping[str, Rows], rounds: altair.Scale, *, narrow: bool) -> list[altair.Chart]:
    """The panel of accuracies, with a line at the round of each request."""
    at = _at(rounds, bare=bool(rows["requests"] or rows["without"]))
    accuracy = altair.Y("accuracy:Q", scale=altair.Scale(domain=[0, 1]), title="test accuracy")
    used = [point["series"] for point in rows["points"]]
    legend = altair.Legend(orient="top", title=None, columns=1 if narrow else 3, symbolStrokeWidth=1.5)
    marks = with_texts(chart_of("points", "point", opacity=1, size=36, strokeWidth=1.5), "accuracy")
    points = marks.encode(
        at,
        accuracy,
        altair.Fill("series:N", scale=scale_of(_FILLS, used), legend=legend),
        altair.Stroke("series:N", scale=scale_of(_STROKES, used), legend=legend),
        altair.Shape("series:N", scale=scale_of(_MARKS, used), legend=legend),
        tooltip=[
            altair.Tooltip("event:N"),
            altair.Tooltip("round:Q"),
            altair.Tooltip("series:N", title="classes"),
            number("accuracy", "test accuracy"),
        ],
    )
    kept = altair.FieldEqualPredicate(field="series", equal=_KEPT)
    line = chart_of("points", "line", color=BLUE).transform_filter(kept).encode(at, accuracy)
    before = altair.Y("before:Q", scale=altair.Scale(domain=[0, 1]))
    jumps = chart_of("jumps", "rule", color=PURPLE, strokeWidth=1.5).encode(at, before, altair.Y2("after"))
    return [_poles(rows, None).encode(at), line, jumps, points]


def _poles(rows: Mapping[str, Rows], legend: altair.Legend | None) -> altair.Chart:
    used = [row["outcome"] for row in rows["requests"]]
    colour = altair.Color("outcome:N", scale=scale_of(_COLOURS, used), legend=legend)
    dash = altair.StrokeDash("outcome:N", scale=scale_of(_DASHES, used), legend=legend)
    return chart_of("requests", "rule").encode(colour, dash, opacity=faded(0.65))


def _request_strip(
    rows: Mapping[str, Rows], rounds: altair.Scale, named_by: str, labels: Sequence[str], limit: int
) -> list[altair.Chart]:
    """A row for each request, with a mark at its round."""
    used = [row["outcome"] for row in rows["requests"]]
    at, axis = _at(rounds, bare=False), altair.Axis(ticks=False, domain=False, grid=True, labelLimit=limit)
    row = altair.Y(f"{named_by}:N", scale=altair.Scale(domain=list(labels)), title=None, axis=axis)
    legend = None  # where all are committed, there is nothing to tell apart
    if set(used) - {COMMITTED}:
        legend = altair.Legend(orient="bottom", title=None, symbolOpacity=1, columns=2 if limit < 150 else 4)
    marks = chart_of("requests", "point", size=60, filled=True)
    placed = marks.encode(
        at,
        row,
        altair.Color("outcome:N", scale=scale_of(_COLOURS, used), legend=legend),
        altair.Shape("outcome:N", scale=scale_of(_SHAPES, used), legend=legend),
        opacity=faded(),
        tooltip=[altair.Tooltip(f"{name}:N") for name in ("request", "forgets", "outcome", "method", "round")],
    )
    poles = _poles(rows, legend).encode(at, row, y2=altair.value(0))
    words = chart_of("without", "text", align="left", fontStyle="italic")
    colour = altair.condition(f"datum.outcome === '{FAILED}'", altair.value(RED), altair.value(INK))
    return [poles, placed, words.encode(row, altair.Text("outcome:N"), x=altair.value(6), color=colour)]


def _points(results: RunResults) -> list[dict[str, object]]:
    before = {request.id: request.before for request in results.requests}
    named = short_ids(results)
    rows: list[dict[str, object]] = []
    for point in results.history:
        place = {"event": named.get(point.event, printable(point.event, 40)), "round": point.round}
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


def _request_rows(results: RunResults) -> list[dict[str, object]]:
    rounds = {point.event: point.round for point in results.history}
    fields = request_fields(results)
    rows = []
    for request in results.requests:
        row = {**fields[request.id], "outcome": outcome_of(request), "method": printable(request.method, 40)}
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
