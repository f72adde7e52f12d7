"""Penultimate features of test samples in two dimensions: before a request, at its end, and of the oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import cast

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
from fed_unlearn.simulations.report.charts.placing import apart
from fed_unlearn.simulations.report.charts.words import (
    distinct,
    forgotten_classes,
    model_words,
    percent,
    samples_word,
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
    samples = samples_word(results)
    own = sum(index in forgotten_classes(request) for index in view.classes)
    wide, narrow = 218 if len(models) > 2 else 320, 290
    rows = _rows(view, models, request, side=min(wide, narrow))
    return Chart(
        name=name,
        title=f"Features of test {samples}: {asked}",
        caption=(
            "Features are the numbers from which the model's last layer makes its answer. Each mark is a test "
            f"{samples.removesuffix('s')}, "
            "placed by its features. All panels have the same two directions: those along which the features before "
            "the request differ most."
        ),
        alternative=(
            f"Scatter of {len(view.classes)} test {samples}, {own} of them of the forgotten classes, {asked}: "
            f"{', '.join(map(model_words, models))}. The two directions hold {percent(view.explained)} of the variance "
            "before the request."
        ),
        spec=_drawn(view, models, rows, columns=3, width=wide),
        narrow_spec=_drawn(view, models, rows, columns=1, width=narrow),
        requests=(request.id,),
    )


def _rows(
    view: ProjectionView, models: Mapping[str, Sequence[Point]], request: RequestResult, *, side: int
) -> dict[str, Rows]:
    """The points of each model, and the names of the classes where there are few, for panels of this side or more."""
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
    if len(set(view.classes)) <= _MOST_NAMED:
        rows |= {_names_of(model): _names(rows[model], _extent(models), side) for model in models}
    return rows


def _drawn(
    view: ProjectionView, models: Mapping[str, Sequence[Point]], rows: Mapping[str, Rows], *, columns: int, width: int
) -> Mapping[str, object]:
    extent = _extent(models)
    panels = [_panel(model, extent, width, named=_names_of(model) in rows) for model in models]
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
        across = altair.X("across:Q", scale=left, title=None, axis=bare)
        along = altair.Y("along:Q", scale=low, title=None, axis=bare)
        words, style = (across, along, altair.Text("class:N")), {"fontSize": 12, "fontWeight": "bold"}
        halo = chart_of(_names_of(model), "text", **style, stroke="white", strokeWidth=4, strokeJoin="round")
        layers += [halo.encode(*words), chart_of(_names_of(model), "text", **style, color=INK).encode(*words)]
    return layered(*layers, view={"stroke": "#BBBBBB"}, width=width, height=width, title=heading(model))


def _names_of(model: str) -> str:
    """The rows with the names of the classes in a panel."""
    return f"{model} names"


def _names(points: Rows, extent: Extent, side: int) -> Rows:
    """Each class at the middle of its points, or so near to it that the name covers no other."""
    found: dict[str, list[Point]] = {}
    for point in points:
        found.setdefault(str(point["class"]), []).append((cast(float, point["x"]), cast(float, point["y"])))
    (left, right), (low, _) = extent
    scale = side / (right - left)
    middles = [(fmean(x for x, _ in several), fmean(y for _, y in several)) for several in found.values()]
    places = apart(list(found), [((x - left) * scale, (y - low) * scale) for x, y in middles], side)
    return [
        {"class": name, "across": round(left + x / scale, 4), "along": round(low + y / scale, 4)}
        for name, (x, y) in zip(found, places, strict=True)
    ]


def _points(view: ProjectionView) -> dict[str, Sequence[Point]]:
    return {name: points for name in _MODELS if (points := getattr(view, name)) is not None}


def _extent(models: Mapping[str, Sequence[Point]]) -> Extent:
    """The same length of both axes, with some room at the edges, so that distances can be compared."""
    xs, ys = zip(*(point for points in models.values() for point in points), strict=True)
    half = 0.53 * max(max(xs) - min(xs), max(ys) - min(ys), 1e-9)
    middles = ((min(values) + max(values)) / 2 for values in (xs, ys))
    left, low = ((middle - half, middle + half) for middle in middles)
    return left, low
