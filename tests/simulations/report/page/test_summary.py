"""The summary of the page: what it says of every request, and how the run stands."""

from dataclasses import replace
from pathlib import Path

import pytest
from page_reader import Page, read
from sample_results import RESULTS, figures
from view_results import request

from fed_unlearn.simulations.report.charts import charts_of
from fed_unlearn.simulations.report.page import render_report
from fed_unlearn.simulations.run.results import RelapseResult, RequestResult, RunResults

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


def paragraphs_of(asked: RequestResult, folder: Path) -> list[str]:
    """What the summary says of a request alone: its sentence, and its figures."""
    _, page = summary_of(replace(RESULTS, requests=(asked,), relapse=(), input="image"), folder)
    (entry,) = [element for element in page.all("li") if "data-request" in element.attributes]
    found = [element for element in page.all("p") if element.within(lambda item: item is entry)]
    return [" ".join(element.text.split()) for element in found]


CLIENT = replace(
    request("r1", 3),
    scope="client",
    target={"client": "2"},
    labels=(),
    method="fedosd",
    evidence="not measurable",
    before=replace(figures(1.0, 0.99), membership_auc=0.625),
    after=replace(figures(0.9, 0.98), membership_auc=0.5, intervals={"membership_auc": (0.375, 0.625)}),
    oracle=None,
)
SAMPLES = replace(CLIENT, scope="sample", target={"client": "2", "samples": 4}, goal="misclassify", method="guard")


def test_a_class_is_told_in_one_sentence_and_its_figures_with_intervals(tmp_path: Path) -> None:
    asked = request("r1", 3)
    assert asked.after is not None
    asked = replace(asked, after=replace(asked.after, intervals={"test_forget_accuracy": (0.0, 0.125)}))
    sentence, told = paragraphs_of(asked, tmp_path)
    assert sentence == (
        "Asked to forget class 3; boundary-shrink did it at the first attempt, and accuracy on its test images fell from"
        " 0.970 to 0.010; evidence: measured at 8 clients."
    )
    assert told == (
        "Accuracy on its test images before 0.970, after 0.010 (0.000 to 0.125), oracle 0.000;"
        " accuracy on all other test images before 0.980, after 0.970, oracle 0.980."
    )


def test_a_client_and_samples_are_told_by_what_was_wanted_of_them(tmp_path: Path) -> None:
    sentence, told = paragraphs_of(CLIENT, tmp_path)
    assert sentence == (
        "Asked to forget all samples of client 2; fedosd did it at the first attempt, and the AUC of the membership"
        " attack on its samples, where 0.5 is a guess, fell from 0.625 to 0.500; evidence: not measurable."
    )
    assert "before 0.625, after 0.500 (0.375 to 0.625);" in told
    sentence, _ = paragraphs_of(replace(SAMPLES, attempts=2, evidence=None), tmp_path)
    assert sentence == (
        "Asked to make 4 samples of client 2 be misclassified; guard did it in 2 attempts, and accuracy on its training"
        " samples fell from 1.000 to 0.900; evidence: not recorded."
    )


@pytest.mark.parametrize(
    ("status", "reason", "said"),
    [
        ("failed", "it is over 0.05", "failed in 1 attempt, so the last accepted model still serves, and the data"
         " stays out of training: it is over 0.05."),
        ("rejected", "client 2 is not known.", "it was rejected: client 2 is not known."),
        ("withdrawn", None, "it was withdrawn."),
        ("held", "it asks for much", "it is held until somebody approves it: it asks for much."),
        ("waiting", "client 2 is away", "it waits until its client is back: client 2 is away."),
        ("reopened", "it is over 0.05", "it was committed, has worn off, and is tried again: it is over 0.05."),
        ("of another version", None, "it has not ended, and is of another version."),
    ],
)  # fmt: skip
def test_requests_that_were_not_committed_are_told_in_one_sentence(
    status: str, reason: str | None, said: str, tmp_path: Path
) -> None:
    served = {} if status == "failed" else {"before": None, "after": None}
    asked = replace(CLIENT, status=status, reason=reason, evidence=None, **served)
    sentence, *told = paragraphs_of(asked, tmp_path)
    assert sentence == f"Asked to forget all samples of client 2; {'fedosd ' if status == 'failed' else ''}{said}"
    assert [line.split(" ")[:3] for line in told] == [["Of", "the", "last"]] * (status == "failed")


def test_the_cost_table_says_whose_passes_each_column_counts(tmp_path: Path) -> None:
    _, page = summary_of(replace(RESULTS, requests=(request("r1", 3),)), tmp_path)
    (table,) = [item for item in page.all("table") if item.text.strip().startswith("What every request cost")]
    headings = [" ".join(item.text.split()) for item in page.all("th") if item.within(lambda one: one is table)]
    assert [heading for heading in headings if headings.count(heading) > 1] == []
    assert headings[1:5] == ["the request's sample passes", "the oracle's sample passes", "seconds", "traffic"]
    assert headings[5:11] == ["unlearn", "audit", "repair", "in all", "train", "times as many"]
