"""The summary of the page: what it says of every request, and how the run stands."""

from dataclasses import replace
from pathlib import Path

from page_reader import Page, read
from sample_results import RESULTS
from view_results import request

from fed_unlearn.simulations.report.charts import charts_of
from fed_unlearn.simulations.report.page import render_report
from fed_unlearn.simulations.run.results import RelapseResult, RunResults

WORN = RelapseResult(after="train:2", forget_accuracy={}, test_forget_accuracy={"r1": 0.5}, relapsed=("r1",))
AGAIN = RelapseResult(after="r1", forget_accuracy={}, test_forget_accuracy={"r1": 0.0})


def summary_of(results: RunResults, folder: Path) -> tuple[str, Page]:
    page = read(render_report(results, folder))
    return " ".join(page.all("section", id="summary")[0].text.split()), page


def classes_of(page: Page, first: str) -> set[str]:
    """The classes beside this one of the elements that have it first."""
    found = [element.attributes.get("class", "").split() for element in page.elements]
    return {name for names in found if names[:1] == [first] for name in names[1:]}


def run_of(*rows: RelapseResult) -> RunResults:
    return replace(RESULTS, requests=(request("r1", 3), request("r2", 4)), relapse=rows)


def test_a_request_that_has_worn_off_makes_the_headline_bad(tmp_path: Path) -> None:
    text, page = summary_of(run_of(AGAIN, WORN), tmp_path)
    assert classes_of(page, "headline") == {"bad"} and classes_of(page, "badge") == {"bad", "good"}
    assert "The forgetting of r1 has worn off since: see Relapse." in text
    assert "after train:2 the gate would refuse it" in text and "committed, worn off" in text


def test_a_request_that_was_committed_again_has_not_worn_off(tmp_path: Path) -> None:
    results = run_of(AGAIN, WORN, AGAIN)
    text, page = summary_of(results, tmp_path)
    assert classes_of(page, "headline") == {"good"} and classes_of(page, "badge") == {"good"}
    assert "worn off" not in text and "All 2 requests were committed." in text
    chart = next(chart for chart in charts_of(results) if chart.name == "relapse")
    assert "had relapsed, and holds again" in chart.alternative


def test_an_audit_that_says_nothing_of_a_request_does_not_mend_it(tmp_path: Path) -> None:
    other = RelapseResult(after="r2", forget_accuracy={}, test_forget_accuracy={"r2": 0.0})
    text, page = summary_of(run_of(AGAIN, WORN, other), tmp_path)
    assert classes_of(page, "headline") == {"bad"} and "after train:2 the gate would refuse it" in text
