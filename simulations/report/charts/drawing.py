"""Draws all charts of a run, in the order of the report."""

from __future__ import annotations

from fed_unlearn.simulations.report.charts.chart import Chart
from fed_unlearn.simulations.report.charts.cost import cost
from fed_unlearn.simulations.report.charts.destinations import destinations
from fed_unlearn.simulations.report.charts.membership import membership
from fed_unlearn.simulations.report.charts.projection import projection
from fed_unlearn.simulations.report.charts.relapse import relapse
from fed_unlearn.simulations.report.charts.requests import requests
from fed_unlearn.simulations.report.charts.timeline import timeline
from fed_unlearn.simulations.report.charts.words import file_names
from fed_unlearn.simulations.run.results import RunResults

_OF_ALL = (timeline, requests, relapse)
_OF_EACH = {"destinations": destinations, "projection": projection, "membership": membership}


def every_chart(results: RunResults) -> list[Chart]:
    """All charts of a run that have something to show. See :func:`fed_unlearn.simulations.report.charts.charts_of`."""
    drawn = [draw(results) for draw in _OF_ALL]
    for kind, draw_one in _OF_EACH.items():
        names = file_names(kind, results.requests)
        drawn += [draw_one(results, request, names[request.id]) for request in results.requests]
    drawn.append(cost(results))
    return [chart for chart in drawn if chart is not None]
