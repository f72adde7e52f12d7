"""Every request: the accuracies before it, after its unlearn round, at its end, and of the oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair

from fed_unlearn.audits.base import Figures
from fed_unlearn.simulations.report.charts.chart import Chart
from fed_unlearn.simulations.report.charts.look import (
    MODEL_SHAPES,
    MODELS,
    Rows,
    chart_of,
    faded,
    finished,
    heading,
    layered,
    number,
    scale_of,
    with_texts,
)
from fed_unlearn.simulations.report.charts.words import (
    counted,
    listed,
    model_words,
    outcome_of,
    percent,
    request_fields,
    samples_word,
    short_ids,
    target_of,
)
from fed_unlearn.simulations.run.results import RequestResult, RunResults

_PANELS = {
    "forget_accuracy": "forget set",
    "retain_accuracy": "retain set",
    "test_forget_accuracy": "forgotten, test",
    "test_retain_accuracy": "others, test",
}
_INTERVAL = "isValid(datum.low) ? datum['low text'] + ' to ' + datum['high text'] : 'none'"
_MANY = 12
"""Requests from which on rows are low."""


def requests(results: RunResults) -> Chart | None:
    """Four accuracies of the models of each request, with intervals. None where no request was measured."""
    measured = [request for request in results.requests if _models_of(request)]
    if not measured:
        return None
    return Chart(
        name="requests",
        title="Every request, before and after",
        caption=(
            "Each row is a request, each panel an accuracy: on the training samples that it names (forget set), on all "
            f"others (retain set), on test {samples_word(results)} of the forgotten classes and of the other classes. "
            "Marks are models: before the request, after its unlearn round, at its end, and the oracle, where one was "
            "trained. Lines are 95 % intervals; an accuracy on all of the training samples has none."
        ),
        alternative=_alternative(results, measured),
        spec=_drawn(results, measured, "label", columns=4, width=124),
        narrow_spec=_drawn(results, measured, "request", columns=2, width=108),
        requests=tuple(request.id for request in measured),
    )


def _drawn(
    results: RunResults, measured: Sequence[RequestResult], named_by: str, *, columns: int, width: int
) -> Mapping[str, object]:
    fields = request_fields(results)
    everything = [row for request in measured for row in _rows(request, fields[request.id])]
    models = [name for name in MODELS if any(row.get("model") == name for row in everything)]
    domain = [str(fields[request.id][named_by]) for request in measured]
    legend = altair.Legend(orient="bottom", title=None, columns=columns)
    limit = 150 if named_by == "label" else 58
    step = (9 if len(measured) < _MANY else 6) * len(models) + 6
    rows: dict[str, Rows] = {}
    panels = []
    for place, (name, title) in enumerate(_PANELS.items()):
        here = [row for row in everything if row["panel"] == title]
        rows[name] = [row for row in here if "model" in row]
        rows[f"{name} missing"] = [row for row in here if "words" in row]
        panel = layered(
            *_layers(name, _row(named_by, domain, limit if place % columns == 0 else 0), models, legend),
            width=width,
            height={"step": step, "for": "position"},
            title=heading(title),
        )
        panels.append(panel)
    return finished({"concat": panels, "columns": columns, "spacing": {"row": 14, "column": 12}}, rows)


def _row(named_by: str, domain: Sequence[str], limit: int) -> altair.Y:
    """A row for each request, with its name in at most so many pixels."""
    axis = altair.Axis(labels=limit > 0, ticks=False, domain=False, bandPosition=0, grid=True, labelLimit=limit)
    bands = altair.Scale(domain=list(domain), paddingInner=0.15, paddingOuter=0.1)
    return altair.Y(f"{named_by}:N", scale=bands, title=None, axis=axis)


def _layers(name: str, row: altair.Y, models: Sequence[str], legend: altair.Legend) -> list[altair.Chart]:
    """One accuracy of all requests: a row for each request, and in it a line for each model."""
    line = altair.YOffset("model:N", scale=altair.Scale(domain=list(models), paddingOuter=0.2))
    scale = altair.Scale(domain=[0, 1], nice=False, padding=6)
    at = altair.X("accuracy:Q", scale=scale, title=None, axis=altair.Axis(values=[0, 0.5, 1], format=".1f"))
    colour = altair.Color("model:N", scale=scale_of(MODELS, models), legend=legend)
    shape = altair.Shape("model:N", scale=scale_of(MODEL_SHAPES, models), legend=legend)
    points = with_texts(chart_of(name, "point", filled=True, size=42), "accuracy", "low", "high")
    points = points.transform_calculate(interval=_INTERVAL)
    spans = chart_of(name, "rule", strokeWidth=2).transform_filter(altair.FieldValidPredicate(field="low", valid=True))
    words = chart_of(f"{name} missing", "text", fontStyle="italic")
    tooltip = [
        altair.Tooltip("request:N"),
        altair.Tooltip("forgets:N"),
        altair.Tooltip("model:N"),
        number("accuracy"),
        altair.Tooltip("interval:N"),
    ]
    return [
        spans.encode(altair.X("low:Q", scale=scale), row, line, colour, altair.X2("high"), opacity=faded()),
        points.encode(at, row, line, colour, shape, opacity=faded(), tooltip=tooltip),
        words.encode(row, altair.Text("words:N")),
    ]


def _models_of(request: RequestResult) -> dict[str, Figures]:
    return {name: figures for name in MODELS if (figures := getattr(request, name)) is not None}


def _rows(request: RequestResult, fields: Mapping[str, object]) -> list[dict[str, object]]:
    rows = []
    for name, title in _PANELS.items():
        found = False
        for model, figures in _models_of(request).items():
            value = getattr(figures, name)
            if value is None:
                continue
            found = True
            row = {**fields, "panel": title, "model": model, "accuracy": value}
            if name in figures.intervals:
                row["low"], row["high"] = figures.intervals[name]
            rows.append(row)
        if not found:
            rows.append({**fields, "panel": title, "words": "does not apply"})
    return rows


def _alternative(results: RunResults, measured: Sequence[RequestResult]) -> str:
    named, parts = short_ids(results), []
    for request in measured:
        models = _models_of(request)
        told = ", ".join(
            f"{percent(figures.forget_accuracy)} and {percent(figures.retain_accuracy)} {model_words(model)}"
            for model, figures in models.items()
            if model != "unlearned"
        )
        parts.append(f"{named[request.id]} ({target_of(request)}, {outcome_of(request)}) {told}")
    return f"Accuracies of {counted(len(measured))} on the forget set and on the retain set: {listed(parts, most=8)}."
