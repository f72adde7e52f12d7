"""Penultimate features of test images in two dimensions: before a request, at its end, and of the oracle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import altair

from fed_unlearn.simulations.report.charts.chart import Chart
from fed_unlearn.simulations.report.charts.look import (
    GREY,
    INK,
    RED,
    Panel,
    Rows,
    chart_of,
    finished,
    heading,
    layered,
    scale_of,
)
from fed_unlearn.simulations.report.charts.words import (
    distinct,
    forgotten_classes,
    model_words,
    percent,
    short_ids,
    target_of,
)
from fed_unlearn.simulations.run.results import RequestResult, RunResults
from fed_unlearn.simulations.run.views.view_results import Point, ProjectionView

_MODELS = ("before", "after", "oracle")
_KINDS = {"forgotten class": RED, "other classes": GREY}
_SHAPES = {"forgotten class": "triangle-up", "other classes": "circle"}
_OPACITIES = {"forgotten class": 0.9, "other classes": 0.45}
_MOST_NAMED = 20
"""Classes that are named in the chart at most."""

Extent = tuple[Sequence[float], Sequence[float]]


def projection(results: RunResults, request: RequestResult, name: str) -> Chart | None:
    """Scatter of features in two dimensions, one panel for each model. None where nothing was looked at."""
    view = None if request.views is None else request.views.projection
    models = {} if view is None else _points(view)
    if view is None or not models:
        return None
    asked = f"{short_ids(results)[request.id]}, {target_of(request)}"
    own = sum(index in forgotten_classes(request) for index in view.classes)
    return Chart(
        name=name,
        title=f"Features of test images: {asked}",
        caption=(
            "Features are the numbers from which the model's last layer makes its answer. Each mark is a test image, "
            "placed by its features. All panels have the same two directions: those along which the features before "
            "the request differ most."
        ),
        alternative=(
            f"Scatter of {len(view.classes)} test images, {own} of them of the forgotten classes, {asked}: "
            f"{', '.join(map(model_words, models))}. The two directions hold {percent(view.explained)} of the variance "
            "before the request."
        ),
        spec=_drawn(view, models, request, columns=3, width=218 if len(models) > 2 else 320),
        narrow_spec=_drawn(view, models, request, columns=1, width=290),
        requests=(request.id,),
    )


def _drawn(
    view: ProjectionView, models: Mapping[str, Sequence[Point]], request: RequestResult, *, columns: int, width: int
) -> Mapping[str, object]:
    labels = distinct(view.labels, 14)
    forgotten = forgotten_classes(request)
    rows: dict[str, Rows] = {}
    for model, points in models.items():
        everything = [
            {"x": x, "y": y, "class": labels[index], "kind": list(_KINDS)[index not in forgotten]}
            for (x, y), index in zip(points, view.classes, strict=True)
        ]
        # The forgotten class is drawn last, over the others.
        rows[model] = sorted(everything, key=lambda row: list(_KINDS).index(str(row["kind"])), reverse=True)
    extent = _extent(point for points in models.values() for point in points)
    named = len(set(view.classes)) <= _MOST_NAMED
    panels = [_panel(model, extent, width, named=named) for model in models]
    held = f"The two directions hold {percent(view.explained)} of the variance before."
    note = {"text": held, "orient": "bottom", "fontSize": 12, "fontWeight": "normal", "offset": 8}
    return finished({"concat": panels, "columns": columns, "spacing": 10, "title": note}, rows)


def _panel(model: str, extent: Extent, width: int, *, named: bool) -> Panel:
    bare = altair.Axis(labels=False, ticks=False, grid=False, domain=False)
    left, low = (altair.Scale(domain=list(ends), nice=False, zero=False) for ends in extent)
    x = altair.X("x:Q", scale=left, title=None, axis=bare)
    y = altair.Y("y:Q", scale=low, title=None, axis=bare)
    kinds, legend = list(_KINDS), altair.Legend(orient="bottom", title=None)
    points = chart_of(model, "point", filled=True, size=28)
    drawn = points.encode(
        x,
        y,
        altair.Color("kind:N", scale=scale_of(_KINDS, kinds), legend=legend),
        altair.Shape("kind:N", scale=scale_of(_SHAPES, kinds), legend=legend),
        altair.Opacity("kind:N", sort=list(kinds), scale=scale_of(_OPACITIES, kinds), legend=legend),
        tooltip=[altair.Tooltip("class:N")],
    )
    layers = [drawn]
    if named:
        words = (altair.X("mean(x):Q"), altair.Y("mean(y):Q"), altair.Detail("class:N"), altair.Text("class:N"))
        style = {"fontSize": 12, "fontWeight": "bold"}
        halo = chart_of(model, "text", **style, stroke="white", strokeWidth=4, strokeJoin="round")
        layers += [halo.encode(*words), chart_of(model, "text", **style, color=INK).encode(*words)]
    return layered(*layers, view={"stroke": "#BBBBBB"}, width=width, height=width, title=heading(model))


def _points(view: ProjectionView) -> dict[str, Sequence[Point]]:
    return {name: points for name in _MODELS if (points := getattr(view, name)) is not None}


def _extent(points: Iterable[Point]) -> Extent:
    """The same length of both axes, with some room at the edges, so that distances can be compared."""
    xs, ys = zip(*points, strict=True)
    half = 0.53 * max(max(xs) - min(xs), max(ys) - min(ys), 1e-9)
    middles = ((min(values) + max(values)) / 2 for values in (xs, ys))
    left, low = ((middle - half, middle + half) for middle in middles)
    return left, low
