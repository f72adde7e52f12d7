"""Every number on the page is one of results.json, and says which."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from page_reader import Page, found_at, read
from sample_results import REQUEST, RESULTS

from fed_unlearn.simulations.report.page import render_report
from fed_unlearn.simulations.run.results import RunResults


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], Page]:
    folder = tmp_path_factory.mktemp("run")
    RESULTS.save(folder)
    return json.loads((folder / "results.json").read_text()), read(render_report(RESULTS, folder))


def as_number(text: str) -> float:
    return float(text.replace(",", ""))


def test_every_number_is_the_one_of_results_json(written: tuple[dict[str, object], Page]) -> None:
    body, page = written
    elements = page.having("data-from")
    assert len(elements) > 50
    for element in elements:
        value = found_at(body, element.attributes["data-from"])
        assert json.loads(element.attributes["value"]) == value
        decimals = len(element.text.partition(".")[2])
        assert as_number(element.text) == pytest.approx(value, abs=0.5 * 10**-decimals + 1e-12)


def test_every_text_is_the_one_of_results_json(written: tuple[dict[str, object], Page]) -> None:
    body, page = written
    elements = page.having("data-text-from")
    assert {element.text for element in elements} >= {"r1", "r2", "boundary-shrink", "forget accuracy 0.250 is above 0"}
    assert all(str(found_at(body, element.attributes["data-text-from"])) == element.text for element in elements)


def test_every_count_is_that_of_a_list(written: tuple[dict[str, object], Page]) -> None:
    body, page = written
    counts = page.having("data-count")
    assert len(counts) >= 2
    for element in counts:
        entries = found_at(body, element.attributes["data-count"])
        if "data-where" in element.attributes:
            keys, wanted = json.loads(element.attributes["data-where"])
            entries = [entry for entry in entries if _at(entry, keys) == wanted]
        assert as_number(element.text) == len(entries) == json.loads(element.attributes["value"])


def _at(entry: object, keys: list[str]) -> object:
    for key in keys:
        entry = entry.get(key) if isinstance(entry, dict) else None
    return entry


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
