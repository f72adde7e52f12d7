"""ROC curves of the membership attack: before a request, at its end, and of the oracle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import altair

from fed_unlearn.audits.base import Figures
from fed_unlearn.rounding import rounded_text
from fed_unlearn.simulations.report.charts.chart import Chart
from fed_unlearn.simulations.report.charts.look import (
    GREY,
    MODEL_DASHES,
    MODELS,
    Rows,
    chart_of,
    finished,
    layered,
    number,
    with_texts,
)
from fed_unlearn.simulations.report.charts.words import model_words, short_ids, target_of
from fed_unlearn.simulations.run.results import RequestResult, RunResults

_FIGURE = "membership_auc"
_CAPTION = (
    "Each curve shows how well an attack tells forgotten samples from unseen ones of the same classes, at every "
    "threshold. A curve along the grey diagonal, with an area (AUC) of a half, means that it can only guess. One far "
    "below tells them apart as well as one far above."
)


def membership(results: RunResults, request: RequestResult, name: str) -> Chart | None:
    """ROC curves of a request's models, with their AUC. None where no curve was kept."""
    models = {
        model: figures
        for model in ("before", "after", "oracle")
        if (figures := getattr(request, model)) is not None and figures.curves.get(_FIGURE)
    }
    if not models:
        return None
    asked = f"{short_ids(results)[request.id]}, {target_of(request)}"
    areas = ", ".join(f"{model_words(model)} {_area(figures)}" for model, figures in models.items())
    return Chart(
        name=name,
        title=f"Can an attack tell what was forgotten? {asked}",
        caption=_CAPTION,
        alternative=f"ROC curves of the membership attack, {asked}. Area under the curve: {areas}.",
        spec=_drawn(models, 320, "right"),
        narrow_spec=_drawn(models, 240, "bottom"),
        requests=(request.id,),
    )


def _drawn(models: Mapping[str, Figures], size: int, legend_at: Literal["right", "bottom"]) -> Mapping[str, object]:
    named = {model: f"{model}, AUC {_area(figures)}" for model, figures in models.items()}
    rows: dict[str, Rows] = {
        "curves": [
            {"model": named[model], "false": x, "true": y, "place": place, "area": figures.membership_auc}
            for model, figures in models.items()
            for place, (x, y) in enumerate(figures.curves[_FIGURE])
        ],
        "diagonal": [{"false": 0, "true": 0}, {"false": 1, "true": 1}],
    }
    whole = altair.Scale(domain=[0, 1], nice=False)
    ticks = altair.Axis(values=[0, 0.25, 0.5, 0.75, 1], format=".2~f")
    at = altair.X("false:Q", scale=whole, title="unseen samples taken for members", axis=ticks)
    up = altair.Y("true:Q", scale=whole, title="forgotten samples taken for members", axis=ticks)
    domain = list(named.values())
    colours, dashes = ([look[model] for model in named] for look in (MODELS, MODEL_DASHES))
    legend = altair.Legend(orient=legend_at, title=None, columns=1, symbolSize=400, symbolStrokeWidth=2.5)
    lines = with_texts(chart_of("curves", "line", strokeWidth=2.5, strokeJoin="round"), "false", "true")
    curves = lines.encode(
        at,
        up,
        altair.Color("model:N", scale=altair.Scale(domain=domain, range=colours), legend=legend),
        altair.StrokeDash("model:N", scale=altair.Scale(domain=domain, range=dashes), legend=legend),
        altair.Order("place:Q"),
        tooltip=[
            altair.Tooltip("model:N"),
            number("false", "unseen samples taken for members"),
            number("true", "forgotten samples taken for members"),
        ],
    )
    diagonal = chart_of("diagonal", "line", color=GREY, strokeWidth=1).encode(at, up)
    return finished(layered(diagonal, curves, width=size, height=size), rows)


def _area(figures: Figures) -> str:
    return "not measured" if figures.membership_auc is None else rounded_text(figures.membership_auc)
