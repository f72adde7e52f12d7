"""What a run leaves to look at when it ends, whatever the drawing does; and the command that makes the page again."""

from pathlib import Path

import pytest
from page_reader import read
from sample_results import RESULTS
from view_results import not_all_committed, request

from fed_unlearn.simulations.cli import run_command
from fed_unlearn.simulations.report import figures
from fed_unlearn.simulations.report.page import render
from fed_unlearn.simulations.report.pages import write_pages
from fed_unlearn.simulations.run.results import RunResults


def broken(*_: object, **__: object) -> None:
    raise RuntimeError("no font\nat all")


def test_a_run_ends_with_figures_and_the_path_of_its_report(tmp_path: Path) -> None:
    assert write_pages(RESULTS, tmp_path) == [f"report: {tmp_path / 'report.html'}"]
    assert (tmp_path / "figures" / "timeline.png").is_file()


def test_what_cannot_be_drawn_is_told_in_a_line_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "write_figures", broken)
    monkeypatch.setattr(render, "pictures_of", broken)
    why = r"(RuntimeError: no font\nat all); the results are complete: fed-unlearn report makes it again"
    assert write_pages(RESULTS, tmp_path) == [f"no {what} could be made {why}" for what in ("figures", "report")]
    assert not (tmp_path / "report.html").exists()


def test_a_broken_report_leaves_the_run_as_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(render, "pictures_of", broken)
    tiny = Path(__file__).parents[2] / "support" / "tiny.toml"
    assert run_command(["run", str(tiny), "--out", str(tmp_path / "run")]) == 0
    assert "no report could be made (RuntimeError: no font" in capsys.readouterr().out.splitlines()[-1]
    assert RunResults.load(tmp_path / "run").succeeded


def test_the_report_of_a_finished_run_is_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = Path(__file__).parents[2] / "support" / "tiny.toml"
    folder = tmp_path / "run"
    assert run_command(["run", str(tiny), "--out", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"report: {folder / 'report.html'}"
    page, results = (folder / "report.html").read_text(), (folder / "results.json").read_bytes()
    (folder / "report.html").unlink()
    assert run_command(["report", str(folder)]) == 0
    assert (folder / "report.html").read_text() == page
    assert (folder / "results.json").read_bytes() == results

    images = tmp_path / "images.html"
    assert run_command(["report", str(folder), "--images", "--out", str(images)]) == 0
    shown = read(images.read_text()).all("section", id="examples")
    assert len(shown) == 1 and images.read_text().count("data:image/png;base64,") == 6


def test_images_are_shown_of_simulations_alone(tmp_path: Path) -> None:
    results = not_all_committed()
    deployed = RunResults(scenario="digits", seed=0, engine="superlink", requests=results.requests)
    without = RunResults(scenario="digits", seed=0, engine="inprocess", requests=(request("r1", 3),))
    for made, why in ((deployed, "this run's data belongs to others"), (without, "cannot be read")):
        page = read(render.render_report(made, tmp_path, images=True))
        assert why in page.all("section", id="examples")[0].text
        assert not any(item.attributes["src"].startswith("data:image/png") for item in page.all("img"))


def test_a_folder_without_results_is_refused_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["report", str(tmp_path)]) == 2
    assert (
        capsys.readouterr().err == f"fed-unlearn: {tmp_path}: holds no results.json; the folder of a run was expected\n"
    )
    RESULTS.save(tmp_path)
    assert run_command(["report", str(tmp_path), "--out", str(tmp_path / "no" / "such" / "page.html")]) == 2
    assert "cannot be written" in capsys.readouterr().err
