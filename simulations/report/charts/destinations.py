"""Where the test samples of the forgotten classes go: the classes that each model calls them by."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import altair

from fed_unlearn.simulations.report.charts.chart import Chart
from fed_unlearn.simulations.report.charts.look import MODELS, Panel, Rows, chart_of, finished, heading, layered
from fed_unlearn.simulations.report.charts.words import (
    distinct,
    forgotten_classes,
    listed,
    model_words,
    samples_word,
    short_ids,
    target_of,
)
from fed_unlearn.simulations.run.results import RequestResult, RunResults
from fed_unlearn.simulations.run.views.view_results import DestinationView

_MODELS = ("before", "after", "oracle")
_MOST = 24
"""Classes that a chart shows at most."""


def destinations(results: RunResults, request: RequestResult, name: str) -> Chart | None:
    """Bars of test samples by the class that each model calls them by. None where nothing was looked at."""
    view = None if request.views is None else request.views.destinations
    models = {} if view is None else _counts(view)
    if view is None or not models:
        return None
    shown, left_out = _shown(view, models, forgotten_classes(request))
    asked = f"{short_ids(results)[request.id]}, {target_of(request)}"
    samples = samples_word(results)
    caption = (
        f"Bars count the test {samples} of the forgotten classes by the class that each model calls them. A model that "
        "has forgotten calls none of them by their own class, which is marked with *."
    )
    return Chart(
        name=name,
        title=f"Where the {samples} go: {asked}",
        caption=caption + (f" Classes that few {samples} go to are left out." if left_out else ""),
        alternative=_alternative(asked, view, models, samples),
        spec=_drawn(view, models, shown, forgotten_classes(request), 520, limit=150, samples=samples),
        narrow_spec=_drawn(view, models, shown, forgotten_classes(request), 204, limit=80, samples=samples),
        requests=(request.id,),
    )


def _drawn(
    view: DestinationView,
    models: Mapping[str, Sequence[int]],
    shown: Sequence[int],
    forgotten: Collection[int],
    width: int,
    *,
    limit: int,
    samples: str,
) -> Mapping[str, object]:
    """A panel for each model, and in each a row for each class."""
    names = distinct([view.labels[index] for index in shown], 24)
    domain = [f"* {text}" if index in forgotten else text for index, text in zip(shown, names, strict=True)]
    rows: dict[str, Rows] = {
        model: [
            {"class": text, "model": model, "samples": counts[index]} for index, text in zip(shown, domain, strict=True)
        ]
        for model, counts in models.items()
    }
    most = max(max(counts) for counts in models.values())
    each = (width - 14 * (len(models) - 1)) // len(models)
    panels = [
        _panel(model, domain, most, each, limit=0 if place else limit, samples=samples)
        for place, model in enumerate(models)
    ]
    return finished({"hconcat": panels, "spacing": 14}, rows)


def _panel(model: str, domain: Sequence[str], most: int, width: int, *, limit: int, samples: str) -> Panel:
    axis = altair.Axis(labels=limit > 0, ticks=False, labelLimit=limit)
    row = altair.Y("class:N", scale=altair.Scale(domain=list(domain), padding=0.15), title=None, axis=axis)
    ticks = altair.Axis(tickCount=3, format="d", grid=True)
    # The number beside the longest bar needs room, too.
    scale = altair.Scale(domain=[0, 1.25 * most], nice=False)
    length = altair.X("samples:Q", scale=scale, title=samples, axis=ticks)
    bars = chart_of(model, "bar", color=MODELS[model])
    numbers = chart_of(model, "text", align="left", dx=3).transform_filter("datum.samples > 0")
    tooltip = [altair.Tooltip("class:N"), altair.Tooltip("model:N"), altair.Tooltip("samples:Q", title=samples)]
    return layered(
        bars.encode(length, row, tooltip=tooltip),
        numbers.encode(length, row, altair.Text("samples:Q", format="d")),
        width=width,
        height={"step": 17},
        title=heading(model),
    )


def _counts(view: DestinationView) -> dict[str, Sequence[int]]:
    return {name: counts for name in _MODELS if (counts := getattr(view, name)) is not None}


def _shown(
    view: DestinationView, models: Mapping[str, Sequence[int]], forgotten: Collection[int]
) -> tuple[list[int], bool]:
    """The classes to show, ascending, and whether others have some, too: all of few classes, else the fullest."""
    every = range(len(view.labels))
    if len(every) <= _MOST:
        return list(every), False
    most = {index: max(counts[index] for counts in models.values()) for index in every}
    used = [index for index in every if most[index] > 0 or index in forgotten]
    fullest = sorted(used, key=lambda index: (index not in forgotten, -most[index], index))
    return sorted(fullest[:_MOST]), len(used) > _MOST


def _alternative(asked: str, view: DestinationView, models: Mapping[str, Sequence[int]], samples: str) -> str:
    labels = distinct(view.labels, 24)
    parts = []
    for model, counts in models.items():
        ranked = sorted((index for index, count in enumerate(counts) if count), key=lambda index: -counts[index])
        parts.append(
            f"{model_words(model)} " + ", ".join(f"{counts[index]} as {labels[index]}" for index in ranked[:4])
        )
    return f"Bars of where test {samples} of the forgotten classes go, {asked}: {listed(parts)}."
