"""The charts of a run, each a Vega-Lite specification with a caption and a text for those who cannot see it."""

from __future__ import annotations

from fed_unlearn.simulations.report.charts.chart import Chart
from fed_unlearn.simulations.run.results import RunResults

__all__ = ["Chart", "charts_of"]


def charts_of(results: RunResults) -> list[Chart]:
    """All charts of a run that have something to show, in the order of the report.

    Parameters
    ----------
    results : RunResults
        The results of a run, complete or not.

    Returns
    -------
    list of Chart
        ``timeline``, ``requests`` and ``relapse`` of all requests; then, of each request, ``destinations-ID``,
        ``projection-ID`` and ``membership-ID``; then ``cost`` of all requests.
    """
    from fed_unlearn.simulations.report.charts.drawing import every_chart  # it imports altair

    return every_chart(results)
