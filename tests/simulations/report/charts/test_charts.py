from sample_results import RESULTS

from fed_unlearn.simulations.report.charts import charts_of
from fed_unlearn.simulations.run.results import RunResults


def test_charts_come_in_the_order_of_the_report() -> None:
    assert [chart.name for chart in charts_of(RESULTS)] == ["timeline", "requests", "relapse"]


def test_a_run_that_has_measured_nothing_has_no_charts() -> None:
    assert charts_of(RunResults(scenario="digits", seed=0, engine="inprocess")) == []
