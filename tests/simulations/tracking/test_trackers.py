"""What each tracker keeps of a run, read back by other means, also where the run is killed and goes on."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import wandb_file
from sample_results import REQUEST
from sample_results import RESULTS as SAMPLE
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fed_unlearn.simulations.run.results import HistoryPoint, RunResults
from fed_unlearn.simulations.tracking.points import points_of
from fed_unlearn.simulations.tracking.tracking import Tracking

SETTINGS = {"seed": 3, "training.strategy": "FedAvg"}
LATER = (
    HistoryPoint(event="r2", round=34, test_accuracy=0.95),
    HistoryPoint(event="train:2", round=44, test_accuracy=0.96),
)
RESULTS = replace(SAMPLE, history=(*SAMPLE.history, *LATER))
PLAIN = replace(REQUEST, oracle=None, oracle_seconds=None, oracle_passes=None)
FIRST = replace(RESULTS, requests=(), relapse=(), history=RESULTS.history[:1], complete=False)
SECOND = replace(RESULTS, requests=(PLAIN,), relapse=RESULTS.relapse[:1], history=RESULTS.history[:2], complete=False)
EXPECTED = {(point.step, name, value) for point in points_of(RESULTS) for name, value in point.figures.items()}
Shown = set[tuple[int, str, float]]


def tracking(name: str, out: Path) -> Tracking:
    return Tracking([name], out, name="digits-seed3", settings=SETTINGS, warn=pytest.fail)


def run(name: str, out: Path, *several: RunResults) -> None:
    """One process that notes some results."""
    process = tracking(name, out)
    for results in several:
        process.note(results)
    process.close(several[-1])


def of_csv(out: Path) -> list[tuple[int, str, float]]:
    with (out / "tracking" / "metrics.csv").open(newline="") as file:
        return [(int(row["step"]), row["name"], float(row["value"])) for row in csv.DictReader(file)]


def of_tensorboard(out: Path) -> list[tuple[int, str, float]]:
    events = EventAccumulator(str(out / "tracking" / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return [(item.step, name, item.value) for name in events.Tags()["scalars"] for item in events.Scalars(name)]


def of_mlflow(out: Path) -> list[tuple[int, str, float]]:
    with sqlite3.connect(out / "tracking" / "mlflow.db") as store:
        return store.execute("select step, key, value from metrics").fetchall()


def of_wandb(out: Path) -> list[tuple[int, str, float]]:
    files = wandb_file.offline_runs(out / "tracking")
    return [shown for file in files for _, values in wandb_file.history(file) for shown in shown_of(values)]


def shown_of(values: dict[str, float]) -> Shown:
    """The figures of one call, as W&B has them."""
    return {
        (int(values["round"]), name, value)
        for name, value in values.items()
        if name != "round" and not name.startswith("_")
    }


READERS: dict[str, Callable[[Path], list[tuple[int, str, float]]]] = {
    "csv": of_csv,
    "tensorboard": of_tensorboard,
    "mlflow": of_mlflow,
    "wandb": of_wandb,
}


def slow_where_a_service_starts(name: str) -> object:
    return pytest.param(name, marks=pytest.mark.slow) if name in ("mlflow", "wandb") else name


EVERY = [slow_where_a_service_starts(name) for name in READERS]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "WANDB_"))]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize("name", EVERY)
def test_every_point_is_there_once_over_two_processes(name: str, tmp_path: Path) -> None:
    run(name, tmp_path, FIRST, SECOND)
    run(name, tmp_path, SECOND, RESULTS)
    shown = READERS[name](tmp_path)
    assert len(shown) == len(EXPECTED)
    assert sorted((step, key) for step, key, _ in shown) == sorted((step, key) for step, key, _ in EXPECTED)
    values = {(step, key): value for step, key, value in EXPECTED}
    assert all(value == pytest.approx(values[step, key], rel=1e-6) for step, key, value in shown)


KILLED = """
import os, signal, sys
from pathlib import Path
from test_trackers import FIRST, SECOND, tracking
from fed_unlearn.simulations.tracking import tracking as module

def noted_and_killed(*arguments):
    write(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)

process = tracking(sys.argv[1], Path(sys.argv[2]))
process.note(FIRST)
write = module.write_atomically
if sys.argv[3] == "noted":
    module.write_atomically = noted_and_killed
else:  # what was logged is not noted any more
    module.write_atomically = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
process.note(SECOND)
"""


def killed(name: str, out: Path, moment: str) -> None:
    """A process that is killed when its second points are logged, before or after that is noted."""
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parents[1] / "support")])
    command = [sys.executable, "-c", KILLED, name, str(out), moment]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in READERS if name != "wandb"])
def test_points_that_were_logged_just_before_a_kill_are_not_logged_again(name: str, tmp_path: Path) -> None:
    killed(name, tmp_path, "not noted")
    before = READERS[name](tmp_path)
    assert len(before) == sum(len(point.figures) for point in points_of(SECOND))
    run(name, tmp_path, RESULTS)
    shown = READERS[name](tmp_path)
    assert len(shown) == len(set(shown)) == len(EXPECTED)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["noted", "not noted"])
def test_wandb_has_every_point_after_kills_and_repeated_ones_are_equal(moment: str, tmp_path: Path) -> None:
    """A kill takes away what its library has in memory. Then all points are in the next file, each under its number."""
    killed("wandb", tmp_path, moment)
    first = json.loads((tmp_path / "tracking" / "logged.json").read_text())["wandb"]
    killed("wandb", tmp_path, moment)
    run("wandb", tmp_path, RESULTS)
    files = wandb_file.begun_runs(tmp_path / "tracking")
    assert len(files) == 3 and {file.name for file in files} == {f"run-{first['id']}.wandb"}
    last = files[-1]
    wandb_file.wait_for_end(last)
    assert wandb_file.run_of(last).run_id == first["id"]
    points = {point.key: point for point in points_of(RESULTS)}
    kept = json.loads((tmp_path / "tracking" / "logged.json").read_text())["wandb"]
    assert kept["points"][: len(first["points"])] == first["points"] and set(kept["points"]) == set(points)
    own = {number: shown_of(values) for number, values in wandb_file.history(last)}
    assert own == {
        number: {(points[key].step, name, value) for name, value in points[key].figures.items()}
        for number, key in enumerate(kept["points"])
    }
    for file in files:
        assert all(shown_of(values) == own[number] for number, values in wandb_file.history(file))

    run("wandb", tmp_path, RESULTS)  # it ended in order, so nothing is written once more
    [added] = wandb_file.begun_runs(tmp_path / "tracking")[3:]
    wandb_file.wait_for_end(added)
    assert wandb_file.history(added) == []


def test_csv_is_exact(tmp_path: Path) -> None:
    run("csv", tmp_path, FIRST, replace(SECOND, requests=(), relapse=()))
    assert (tmp_path / "tracking" / "metrics.csv").read_text() == (
        "step,event,name,value\n30,train:1,test_accuracy,0.97\n32,r1,test_accuracy,0.96\n"
    )
    assert (tmp_path / "tracking" / "facts.csv").read_text() == "name,value\nseed,3\ntraining.strategy,FedAvg\n"
    run("csv", tmp_path, RESULTS)
    rows = (tmp_path / "tracking" / "metrics.csv").read_text().splitlines()
    assert rows[:3] == ["step,event,name,value", "30,train:1,test_accuracy,0.97", "32,r1,test_accuracy,0.96"]
    assert "32,r1,r1/after/test_forget_accuracy,0.01" in rows
    assert "r1/status,committed\n" in (tmp_path / "tracking" / "facts.csv").read_text()


def test_tensorboard_shows_settings_and_verdicts(tmp_path: Path) -> None:
    run("tensorboard", tmp_path, RESULTS)
    events = EventAccumulator(str(tmp_path / "tracking" / "tensorboard")).Reload()

    def text(name: str) -> str:
        [event] = events.Tensors(f"{name}/text_summary")
        return bytes(event.tensor_proto.string_val[0]).decode()

    assert "| training.strategy | FedAvg |" in text("settings")
    assert (text("r1/status"), text("r2/status")) == ("committed", "failed")


@pytest.mark.slow
def test_mlflow_goes_on_with_its_run(tmp_path: Path) -> None:
    def rows(table: str) -> list[tuple[str, ...]]:
        with sqlite3.connect(tmp_path / "tracking" / "mlflow.db") as store:
            return store.execute(f"select * from {table}").fetchall()

    run("mlflow", tmp_path, FIRST)
    with sqlite3.connect(tmp_path / "tracking" / "mlflow.db") as store:
        assert store.execute("select name, status from runs").fetchall() == [("digits-seed3", "KILLED")]
    run("mlflow", tmp_path, RESULTS)
    with sqlite3.connect(tmp_path / "tracking" / "mlflow.db") as store:
        assert store.execute("select name, status from runs").fetchall() == [("digits-seed3", "FINISHED")]
        tags = dict(store.execute("select key, value from tags").fetchall())
        parameters = dict(store.execute("select key, value from params").fetchall())
    assert parameters == {"seed": "3", "training.strategy": "FedAvg"}
    assert tags.pop("mlflow.runName") == "digits-seed3"
    assert tags["r1/status"] == "committed"
    assert not [name for name in tags if name.startswith("mlflow.")]  # no user, no source, no command line


@pytest.mark.slow
def test_wandb_stays_offline_under_one_id_and_finds_nothing_by_itself(tmp_path: Path) -> None:
    run("wandb", tmp_path, FIRST)
    run("wandb", tmp_path, RESULTS)
    first, second = wandb_file.offline_runs(tmp_path / "tracking")
    assert wandb_file.run_of(first).run_id == wandb_file.run_of(second).run_id
    assert wandb_file.run_of(first).project == "fed-unlearn"
    numbers = [number for file in (first, second) for number, _ in wandb_file.history(file)]
    assert numbers == list(range(len(points_of(RESULTS))))
    assert wandb_file.summary(second)["r2/status"] == "failed"
    config = {item.key: item.value_json for item in wandb_file.run_of(first).config.update}
    assert config == {"_wandb": "{}", "seed": "3", "training.strategy": '"FedAvg"'}
    texts = wandb_file.texts(first) + wandb_file.texts(second)
    assert "digits-seed3" in texts
    words = {word for text in texts for word in re.split(r"[^\w.-]+", text)}  # a host may be called "vm", an id "9vm2"
    assert not words & {os.uname().nodename, Path(sys.argv[0]).name}
    assert not list((tmp_path / "tracking" / "wandb").glob("*/files/*"))
