"""Results that are read from a ledger alone: those of somebody's own Flower app."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from page_reader import read as read_page

from fed_unlearn.simulations.cli import BAD_INPUT, run_command
from fed_unlearn.simulations.report.page import render_report
from fed_unlearn.simulations.run.driver import run_in_process
from fed_unlearn.simulations.run.ledger_results import results_of_ledger
from fed_unlearn.simulations.run.results import ResultsError, RunResults
from fed_unlearn.simulations.scenario import load_scenario

TINY = str(Path(__file__).parents[2] / "support" / "tiny.toml")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    run_in_process(load_scenario(TINY), out)
    return out


def test_they_are_those_of_the_run_but_for_what_a_ledger_does_not_know(whole: Path) -> None:
    known = RunResults.load(whole)
    read = results_of_ledger(whole / "ledger.db", name="tiny")
    assert read.devices == () and read.engine == "app"
    without_views = tuple(replace(item, views=None) for item in known.requests)
    assert known.input == "image" and read.input is None  # a ledger does not know
    read = replace(read, devices=known.devices, engine=known.engine, input=known.input)
    assert read == replace(known, requests=without_views)


def test_a_report_is_made_of_a_ledger(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    assert run_command(["report", str(whole / "ledger.db"), "--out", str(page)]) == 0
    assert capsys.readouterr().out.startswith("report: ")
    text = page.read_text()
    assert 'data-from="requests[0].after.forget_accuracy"' in text
    assert "<dt>Seed</dt>" not in text
    assert not (whole / "report.html").exists()


def test_a_report_of_a_ledger_speaks_of_no_run(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes((whole / "ledger.db").read_bytes())
    page = read_page(render_report(results_of_ledger(whole / "ledger.db", name="tiny"), tmp_path))
    text = " ".join(
        " ".join(text.split()) for element, text in page.texts if element and element.tag not in ("style", "script")
    )
    assert "Made from the ledger of an app's server" in text
    for word in ("results.json", "--oracle", "this run", "a run records", "scenario.toml", "unlearning run", "image"):
        assert word not in text, word
    alternatives = " ".join(item.attributes["alt"] for item in page.all("img"))
    assert alternatives and "image" not in alternatives


def test_a_ledger_beside_results_gives_the_report_of_the_run(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(whole, tmp_path / "run")
    assert run_command(["report", str(folder / "ledger.db")]) == 0
    said = capsys.readouterr().out
    assert "holds results.json, too: the report is that of the run" in said.replace("\n", " ")
    assert "Made from <code>results.json</code>" in (folder / "report.html").read_text()
    kept, other = (folder / "report.html").read_bytes(), folder / "old.db"
    other.write_bytes((folder / "ledger.db").read_bytes())
    assert run_command(["report", str(other)]) == BAD_INPUT
    assert "name the file to write with --out" in capsys.readouterr().err.replace("\n", " ")
    assert (folder / "report.html").read_bytes() == kept


def test_a_folder_without_results_and_ledger_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["report", str(tmp_path)]) == BAD_INPUT
    assert "holds no results.json" in capsys.readouterr().err
    with pytest.raises(ResultsError, match=r"nowhere\.db: is no file"):
        results_of_ledger(tmp_path / "nowhere.db", name="x")
    (tmp_path / "text.db").write_text("no ledger")
    with pytest.raises(ResultsError):
        results_of_ledger(tmp_path / "text.db", name="x")
