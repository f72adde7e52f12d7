"""Trackers of a run: how they are chosen, what is checked before it, and that none can end it."""

from __future__ import annotations

import importlib
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from sample_results import RESULTS

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.ledger import Ledger
from fed_unlearn.simulations.cli import BAD_INPUT, COMMITTED, run_command
from fed_unlearn.simulations.run.folders import keep_scenario
from fed_unlearn.simulations.run.results import RunResults
from fed_unlearn.simulations.scenario import load_scenario
from fed_unlearn.simulations.tracking.base import TRACKERS, Point, TrackedRun, Tracker
from fed_unlearn.simulations.tracking.points import points_of
from fed_unlearn.simulations.tracking.tracking import Tracking

TINY = str(Path(__file__).parents[2] / "support" / "tiny.toml")


class Unreliable(Tracker):
    """A tracker that fails as often as it is told."""

    modules = ()
    failures = 0
    begun: list[TrackedRun]
    points: list[Point]

    def begin(self, run: TrackedRun) -> str:
        self.begun.append(run)
        return "the-id"

    def log(self, points: Sequence[Point]) -> None:
        if type(self).failures:
            type(self).failures -= 1
            raise ConnectionError("https://somebody:password@tracker.example is down\nand stays so")
        self.points.extend(points)

    def close(self, *, complete: bool) -> None:
        pass


@pytest.fixture
def unreliable(monkeypatch: pytest.MonkeyPatch) -> type[Unreliable]:
    known = {**TRACKERS.available(), "unreliable": Unreliable}
    monkeypatch.setattr(TRACKERS, "available", lambda: known)
    monkeypatch.setattr(Unreliable, "begun", [], raising=False)
    monkeypatch.setattr(Unreliable, "points", [], raising=False)
    monkeypatch.setattr(Unreliable, "failures", 0)
    return Unreliable


def test_a_tracker_that_fails_is_told_of_once_and_tried_again_at_the_end(
    unreliable: type[Unreliable], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unreliable.failures = 1
    told: list[str] = []
    caplog.set_level(logging.WARNING)
    tracking = Tracking(["unreliable", "csv"], tmp_path, name="x", settings={}, warn=told.append)
    tracking.note(replace(RESULTS, requests=(), history=RESULTS.history[:1]))
    tracking.note(RESULTS)
    assert not unreliable.points
    tracking.close(RESULTS)
    assert {point.key for point in unreliable.points} == {point.key for point in points_of(RESULTS)}
    assert len(told) == 1 == len(caplog.records)
    assert "tracker unreliable fails: ConnectionError: https://***@tracker.example is down\\nand stays so" in told[0]
    assert "password" not in caplog.text
    assert len((tmp_path / "tracking" / "metrics.csv").read_text().splitlines()) > len(points_of(RESULTS))


class SpeechlessError(Exception):
    """An error that gives no text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("error", [RuntimeError("broken"), SystemExit(1), SpeechlessError()])
@pytest.mark.parametrize("where", ["__init__", "begin", "log", "close"])
def test_no_tracker_ends_a_run_wherever_it_fails(
    unreliable: type[Unreliable],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    error: BaseException,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(unreliable, where, fail)
    told: list[str] = []
    tracking = Tracking(["unreliable", "csv"], tmp_path, name="x", settings={}, warn=told.append)
    tracking.note(RESULTS)
    tracking.close(RESULTS)
    assert told[0].startswith(f"tracker unreliable fails: {type(error).__name__}: ")
    assert len(told) == (1 if where == "close" else 2)
    assert (tmp_path / "tracking" / "metrics.csv").stat().st_size > 100


def test_what_a_tracker_lacks_at_the_end_is_said_and_logged_at_the_next_resume(
    unreliable: type[Unreliable], tmp_path: Path
) -> None:
    unreliable.failures = 2
    told: list[str] = []
    tracking = Tracking(["unreliable"], tmp_path, name="x", settings={}, warn=told.append)
    tracking.note(RESULTS)
    tracking.close(RESULTS)
    count = len(points_of(RESULTS))
    assert told[1:] == [f"tracker unreliable lacks {count} of {count} points of the run"]
    again = Tracking(["unreliable"], tmp_path, name="x", settings={}, warn=pytest.fail)
    again.note(RESULTS)
    assert [point.number for point in unreliable.points] == list(range(count))
    assert [(run.id, run.is_resumed) for run in unreliable.begun] == [(None, False), ("the-id", True)]


def test_a_broken_state_file_does_not_end_a_run(unreliable: type[Unreliable], tmp_path: Path) -> None:
    (tmp_path / "tracking").mkdir()
    (tmp_path / "tracking" / "logged.json").write_text('{"unreliable": {"id": 7}, "csv": []}')
    told: list[str] = []
    tracking = Tracking(["unreliable"], tmp_path, name="x", settings={}, warn=told.append)
    tracking.note(RESULTS)
    assert len(unreliable.points) == len(points_of(RESULTS))
    assert ["logged.json cannot be read" in line for line in told] == [True]


@pytest.mark.parametrize("given", ["\ud800", "x" * 501, "a\nb", 7])
def test_an_id_that_no_file_can_hold_keeps_no_other_tracker_from_its_state(
    unreliable: type[Unreliable], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: object
) -> None:
    monkeypatch.setattr(unreliable, "begin", lambda self, run: given)
    told: list[str] = []
    tracking = Tracking(["unreliable", "csv"], tmp_path, name="x", settings={}, warn=told.append)
    tracking.note(RESULTS)
    tracking.close(RESULTS)
    assert len(told) == 1 and "tracker unreliable: its id of the run is not kept: " in told[0]
    assert told[0].isprintable() and len(told[0]) < 500
    kept = json.loads((tmp_path / "tracking" / "logged.json").read_text())
    keys = [point.key for point in points_of(RESULTS)]
    assert kept == {name: {"id": None, "points": keys, "closed": True} for name in ("unreliable", "csv")}


def test_a_file_in_place_of_the_folder_is_said_in_a_line_and_ends_no_run(
    unreliable: type[Unreliable], tmp_path: Path
) -> None:
    (tmp_path / "tracking").write_text("mine")
    told: list[str] = []
    tracking = Tracking(["unreliable", "csv"], tmp_path, name="x", settings={}, warn=told.append)
    tracking.note(RESULTS)
    tracking.close(RESULTS)
    assert len(told) == 1 and "no tracker is told of this run" in told[0] and "\n" not in told[0]
    assert not unreliable.begun and (tmp_path / "tracking").read_text() == "mine"


@pytest.mark.parametrize(("name", "module"), [("mlflow", "mlflow"), ("wandb", "wandb"), ("tensorboard", "tensorboard")])
def test_a_missing_library_is_one_line_before_anything_is_written(
    name: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    imported = importlib.import_module

    def without(wanted: str, package: str | None = None) -> object:
        if wanted == module:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
        return imported(wanted, package)

    monkeypatch.setattr(importlib, "import_module", without)
    out = tmp_path / "run"
    assert run_command(["run", TINY, "--out", str(out), "--tracker", name]) == BAD_INPUT
    [line] = capsys.readouterr().err.splitlines()
    assert f"reporting.trackers: tracker {name!r} needs {module}, which is not installed" in line
    assert line.endswith(f"pip install 'fed-unlearn[{name}]'")
    assert not out.exists()


def test_a_library_that_is_broken_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mlflow.py").write_text("raise RuntimeError('built for another machine')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mlflow", raising=False)
    with pytest.raises(InvalidParameterError, match=r"cannot be imported \(RuntimeError: built for another machine\)"):
        TRACKERS.find("mlflow").check()


def test_an_unknown_tracker_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["run", TINY, "--out", str(tmp_path / "run"), "--tracker", "tensorbord"]) == BAD_INPUT
    assert "did you mean tensorboard? known are csv, mlflow, tensorboard, wandb" in capsys.readouterr().err


def test_the_scenario_names_the_trackers_that_were_chosen(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run_command(["run", TINY, "--out", str(out), "--tracker", "csv"]) == COMMITTED
    assert load_scenario(str(out / "scenario.toml")).reporting.trackers == ("csv",)
    results = RunResults.load(out)
    rows = (out / "tracking" / "metrics.csv").read_text().splitlines()[1:]
    expected = [
        f"{point.step},{point.event},{name},{value!r}"
        for point in points_of(results)
        for name, value in point.figures.items()
    ]
    assert sorted(rows) == sorted(expected)
    facts = (out / "tracking" / "facts.csv").read_text()
    assert "engine,inprocess\n" in facts and "r1/status,committed\n" in facts


def test_trackers_change_nothing_about_a_run(tmp_path: Path) -> None:
    for name, options in (("plain", []), ("told", ["--tracker", "csv", "--tracker", "tensorboard"])):
        assert run_command(["run", TINY, "--out", str(tmp_path / name), *options]) == COMMITTED
    plain, told = RunResults.load(tmp_path / "plain"), RunResults.load(tmp_path / "told")
    assert [item.after for item in plain.requests] == [item.after for item in told.requests]
    assert plain.history == told.history
    checkpoints = [
        sorted(file.name for file in (tmp_path / run / "checkpoints").iterdir()) for run in ("plain", "told")
    ]
    assert checkpoints[0] == checkpoints[1]


def test_a_run_goes_on_with_other_trackers_than_it_was_begun_with(tmp_path: Path) -> None:
    """Runs that were begun before there were trackers have none in the ledger."""
    ledger = Ledger(tmp_path / "ledger.db")
    keep_scenario(load_scenario(TINY), ledger, tmp_path)
    known = json.dumps(ledger.state("scenario"))
    assert "trackers" not in known
    keep_scenario(load_scenario(TINY, ['reporting.trackers=["csv"]']), ledger, tmp_path)
    assert json.dumps(ledger.state("scenario")) == known
    ledger.close()


def test_trackers_of_a_run_that_goes_on_are_those_of_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["run", "--resume", str(tmp_path), "--tracker", "csv"]) == BAD_INPUT
    assert "--tracker with --resume" in capsys.readouterr().err
