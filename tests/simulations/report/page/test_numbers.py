"""Every number on the page is one of results.json, and says which."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from chart_numbers import check_charts
from page_numbers import check_counts, check_numbers, check_places, check_texts
from page_reader import Page, found_at, read
from sample_results import REQUEST, RESULTS
from view_results import many, nearly, not_all_committed

from fed_unlearn.simulations.report.page import render_report
from fed_unlearn.simulations.run.results import RunResults


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], Page]:
    folder = tmp_path_factory.mktemp("run")
    RESULTS.save(folder)
    return json.loads((folder / "results.json").read_text()), read(render_report(RESULTS, folder))


def test_every_number_is_the_one_of_results_json(written: tuple[dict[str, object], Page]) -> None:
    assert check_numbers(*written) > 50
    check_places(*written)


def test_every_text_is_the_one_of_results_json(written: tuple[dict[str, object], Page]) -> None:
    assert check_texts(*written) >= {"r1", "r2", "boundary-shrink", "forget accuracy 0.250 is above 0"}


def test_every_count_is_that_of_a_list(written: tuple[dict[str, object], Page]) -> None:
    assert check_counts(*written) >= 2


@pytest.mark.parametrize(
    "results", [RESULTS, not_all_committed(), many(13), nearly()], ids=["sample", "held", "many", "nearly"]
)
def test_data_and_words_of_every_chart_are_those_of_results_json(results: RunResults, tmp_path: Path) -> None:
    body, page = json.loads(json.dumps(results.to_json())), read(render_report(results, tmp_path))
    assert len(check_charts(body, page)) >= 3
    check_numbers(body, page)


def test_almost_nothing_and_almost_all_are_told_apart_from_nothing_and_all(tmp_path: Path) -> None:
    page = read(render_report(nearly(), tmp_path))
    text = " ".join(text for _, text in page.texts)
    assert "0.9996" in text and "0.0004" in text
    alternative = next(item.attributes["alt"] for item in page.all("img"))
    assert "99.96 %" in alternative and "0.04 %" in alternative


def test_no_other_number_stands_in_the_text(written: tuple[dict[str, object], Page]) -> None:
    assert written[1].loose_numbers() == []


def test_every_figure_of_every_request_is_there(written: tuple[dict[str, object], Page]) -> None:
    body, page = written
    shown = {element.attributes["data-from"] for element in page.having("data-from")}
    for index, request in enumerate(body["requests"]):  # type: ignore[arg-type, attr-defined]
        for model in ("before", "unlearned", "after", "oracle"):
            for name, value in (request[model] or {}).items():
                if isinstance(value, float):
                    assert f"requests[{index}].{model}.{name}" in shown


def test_names_that_are_no_words_are_found_again(tmp_path: Path) -> None:
    before = replace(REQUEST.before, extra={'odd "name" [0]': 0.25}, intervals={'odd "name" [0]': (0.125, 0.5)})
    request = replace(REQUEST, id="a.b", before=before)
    results = RunResults(scenario="digits", seed=0, engine="inprocess", requests=(request,))
    page, body = read(render_report(results, tmp_path)), json.loads(json.dumps(results.to_json()))
    values = [found_at(body, element.attributes["data-from"]) for element in page.having("data-from")]
    assert {0.25, 0.125, 0.5} <= set(values)
