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
    finished,
    scale_of,
)
from fed_unlearn.simulations.report.charts.words import (
    listed,
    model_words,
    outcome_of,
    percent,
    row_labels,
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
_MANY = 12
"""Requests from which on rows are low."""


def requests(results: RunResults) -> Chart | None:
    """Four accuracies of the models of each request, with intervals. None where no request was measured."""
    measured = [request for request in results.requests if _models_of(request)]
    if not measured:
        return None
    wide, narrow = row_labels(results, 26), short_ids(results, 9)
    return Chart(
        name="requests",
        title="Every request, before and after",
        caption=(
            "Each row is a request, each panel an accuracy: on the training samples that it names (forget set), on all "
            "others (retain set), on test images of the forgotten classes and of the other classes. Lines are "
            "95 % intervals of accuracies that were measured on a part of the samples."
        ),
        alternative=_alternative(measured),
        spec=_drawn(measured, wide, columns=4, width=124),
        narrow_spec=_drawn(measured, narrow, columns=2, width=112),
        requests=tuple(request.id for request in measured),
    )


def _drawn(
    measured: Sequence[RequestResult], labels: Mapping[str, str], *, columns: int, width: int
) -> Mapping[str, object]:
    everything = [row for request in measured for row in _rows(request, labels[request.id])]
    models = [name for name in MODELS if any(row.get("model") == name for row in everything)]
    domain = [labels[request.id] for request in measured]
    step = (9 if len(measured) < _MANY else 6) * len(models) + 6
    rows: dict[str, Rows] = {}
    panels = []
    for place, (name, title) in enumerate(_PANELS.items()):
        here = [row for row in everything if row["panel"] == title]
        rows[name] = [row for row in here if "model" in row]
        rows[f"{name} intervals"] = [row for row in here if "low" in row]
        rows[f"{name} missing"] = [row for row in here if "words" in row]
        panel = _panel(name, domain, models, labelled=place % columns == 0)
        heading = altair.Title(title, fontSize=12, anchor="middle")
        panels.append(panel.properties(width=width, title=heading, height=altair.Step(step, **{"for": "position"})))
    return finished(altair.concat(*panels, columns=columns, spacing={"row": 14, "column": 12}), rows)


def _panel(name: str, domain: Sequence[str], models: Sequence[str], *, labelled: bool) -> altair.LayerChart:
    """One accuracy of all requests: a row for each request, and in it a line for each model."""
    row = altair.Y("label:N").scale(domain=list(domain), paddingInner=0.15, paddingOuter=0.1).title(None)
    row = row.axis(
        labels=labelled, ticks=False, domain=False, bandPosition=0, grid=True, labelLimit=150, labelPadding=8
    )
    line = altair.YOffset("model:N").scale(domain=list(models), paddingOuter=0.2)
    scale = altair.Scale(domain=[0, 1], nice=False, padding=6)
    at = altair.X("accuracy:Q").scale(scale).title(None).axis(values=[0, 0.5, 1], format=".1f")
    legend = altair.Legend(orient="bottom", title=None, columns=4)
    colour = altair.Color("model:N").scale(scale_of(MODELS, models)).legend(legend)
    shape = altair.Shape("model:N").scale(scale_of(MODEL_SHAPES, models)).legend(legend)
    points = chart_of(name).mark_point(filled=True, opacity=1, size=42)
    spans = chart_of(f"{name} intervals").mark_rule(strokeWidth=2)
    words = chart_of(f"{name} missing").mark_text(fontStyle="italic")
    tooltip = [
        altair.Tooltip("request:N"),
        altair.Tooltip("forgets:N"),
        altair.Tooltip("model:N"),
        altair.Tooltip("accuracy:Q", format=".3f"),
        altair.Tooltip("low:Q", format=".3f", title="interval from"),
        altair.Tooltip("high:Q", format=".3f", title="interval to"),
    ]
    return altair.layer(
        spans.encode(altair.X("low:Q").scale(scale), row, line, colour, altair.X2("high")),
        points.encode(at, row, line, colour, shape, tooltip=tooltip),
        words.encode(row, altair.Text("words:N")),
    )


def _models_of(request: RequestResult) -> dict[str, Figures]:
    return {name: figures for name in MODELS if (figures := getattr(request, name)) is not None}


def _rows(request: RequestResult, label: str) -> list[dict[str, object]]:
    place: dict[str, object] = {"request": label.partition(":")[0], "label": label, "forgets": target_of(request)}
    rows = []
    for name, title in _PANELS.items():
        found = False
        for model, figures in _models_of(request).items():
            value = getattr(figures, name)
            if value is None:
                continue
            found = True
            row = {**place, "panel": title, "model": model, "accuracy": value}
            if name in figures.intervals:
                row["low"], row["high"] = figures.intervals[name]
            rows.append(row)
        if not found:
            rows.append({**place, "panel": title, "words": "does not apply"})
    return rows


def _alternative(measured: Sequence[RequestResult]) -> str:
    parts = []
    for request in measured:
        models = _models_of(request)
        accuracies = ", ".join(
            f"{model_words(name)} {percent(figures.forget_accuracy)} of the forget set and "
            f"{percent(figures.retain_accuracy)} of the retain set"
            for name, figures in models.items()
        )
        parts.append(f"{request.id} ({target_of(request)}, {outcome_of(request)}): {accuracies}")
    return f"Accuracies of {len(measured)} requests. {listed(parts, most=6)}."
