"""``[reporting]``: what Avalanche's loggers show of a run, and that it changes nothing about the run."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stores import stored_requests
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from fed_unlearn.avalanche.streams.benchmarks import experience_ids
from fed_unlearn.errors import InvalidDataError
from fed_unlearn.ledger import Ledger
from fed_unlearn.logits import predict_logits
from fed_unlearn.models import load_checkpoint
from fed_unlearn.simulations.run import scenario_run
from fed_unlearn.simulations.run.driver import run_in_process
from fed_unlearn.simulations.run.export import export_model
from fed_unlearn.simulations.run.report_stream import forget_benchmark_of
from fed_unlearn.simulations.run.reporting import RunReport
from fed_unlearn.simulations.run.results import RunResults
from fed_unlearn.simulations.run.stream import benchmark_of
from fed_unlearn.simulations.scenario import ScenarioError, load_scenario
from fed_unlearn.simulations.scenario.sections import Scenario
from fed_unlearn.simulations.task import new_model, source_of

TINY = str(Path(__file__).parents[2] / "support" / "tiny.toml")

SCENARIO = """
name = "told"
[run]
threads = 1
evaluate-every = 10
[data]
dataset = "digits"
[clients]
count = 3
[model]
name = "small-cnn"
[stream]
benchmark = "class-incremental"
experiences = 2
class-order = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
replay-samples = 60
[unlearning]
retention = 1
repair-rounds = 0
max-repair-rounds = 0
max-attempts = 1
[gate.class]
max-forget-accuracy = 0.2
max-retain-drop = 0.5
max-total-retain-drop = 0.9
[gate.sample]
max-forget-accuracy = 1.0
max-retain-drop = 0.5
max-total-retain-drop = 0.9
[[timeline]]
train = { experience = 1, rounds = 4 }
[[timeline]]
forget = [{ class = 3 }, { client = 0, sample-ids = [999999], id = "unknown" }]
[[timeline]]
train = { experience = 2, rounds = 4 }
[[timeline]]
forget = [{ client = 1, samples = 8, method = "random-label" }, { class = 7, id = "stays", parameters = { learning-rate = 1e-9 } }, { class = 8 }]
[[timeline]]
train = { experience = "all", rounds = 1 }
"""
LOGGERS = 'reporting.loggers=["text", "tensorboard", "csv"]'
RETAIN = "Retain_Acc_Stream/eval_phase/test_stream"
FORGET = "Forget_Acc_Exp/eval_phase/forget_stream"
MATRIX = "Relapse_Matrix/eval_phase/forget_stream"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scenario") / "told.toml"
    path.write_text(SCENARIO)
    return path


def loaded(path: Path, *overrides: str) -> Scenario:
    return load_scenario(str(path), overrides)


@pytest.fixture(scope="module")
def told(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was reported."""
    out = tmp_path_factory.mktemp("told") / "run"
    run_in_process(loaded(path, LOGGERS), out)
    return out


def curves(out: Path) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    with (out / "reports" / "metrics.csv").open() as lines:
        for row in csv.DictReader(lines):
            found.setdefault(row["name"], []).append((int(row["x"]), float(row["value"])))
    return found


def without_times(out: Path) -> Any:
    body = json.loads((out / "results.json").read_text())
    del body["devices"]  # counted by process
    del body["ledger"]  # its digests hold times
    for item in (body["training"], *body["requests"]):
        for key in ("seconds", "oracle_seconds", "speedup", "submitted", "ended"):
            item.pop(key, None)
    return body


def served_model(scenario: Scenario, out: Path) -> nn.Module:
    model = new_model(scenario, source_of(scenario.data))
    export_model(out, out / "exported.safetensors")
    load_checkpoint(model, out / "exported.safetensors")
    return model


def test_curves_agree_with_what_the_clients_measured(told: Path) -> None:
    """Clients and report look at the same samples: theirs are all test samples, and D_f is at its holders."""
    results, shown = RunResults.load(told), curves(told)
    assert [(item.id, item.status) for item in results.requests] == [
        ("r1", "committed"),
        ("unknown", "rejected"),
        ("r2", "committed"),
        ("stays", "failed"),
        ("r3", "committed"),
    ]
    points = {point.event: point for point in results.history}
    for name, number in (("r1", 0), ("r2", 1), ("r3", 3)):
        [after] = [item.after for item in results.requests if item.id == name]
        assert after is not None and after.forget_accuracy is not None
        assert dict(shown[f"{FORGET}/Exp00{number}"])[points[name].round] == pytest.approx(after.forget_accuracy)
        assert dict(shown[RETAIN])[points[name].round] == pytest.approx(points[name].test_accuracy)
    steps = [points[name].round for name in ("train:1", "r1", "train:2", "r2", "r3", "train:3")]
    assert [step for step, _ in shown["Top1_Acc_Stream/eval_phase/test_stream"]] == steps == sorted(set(steps))
    assert [step for step, _ in shown[RETAIN]] == steps[1:]
    assert shown[f"{FORGET}/Exp000"][0][1] < 0.2 < shown[f"{FORGET}/Exp002"][0][1]  # "stays" has figures too
    relapse = {row.after: row for row in results.relapse}
    for event, step in (("train:2", steps[2]), ("r2", steps[3]), ("train:3", steps[5])):
        assert dict(shown[f"{FORGET}/Exp000"])[step] == pytest.approx(relapse[event].forget_accuracy["r1"])


def test_the_last_figures_are_those_of_the_served_model(told: Path, path: Path) -> None:
    scenario = loaded(path)
    model, source, shown = served_model(scenario, told), source_of(scenario.data), curves(told)
    retained = source.test.of_classes({0, 1, 2, 4, 5, 6, 9})
    right = float((predict_logits(model, retained).argmax(1) == retained.labels).double().mean())
    assert shown[RETAIN][-1][1] == pytest.approx(right)
    forget_stream = forget_benchmark_of(scenario, source).forget_stream
    assert [experience.request.id for experience in forget_stream] == ["r1", "r2", "stays", "r3"]
    assert [experience.after for experience in forget_stream] == [1, 2, 2, 2]
    kept = stored_requests(told / "clients" / "1" / "state.json")["r2"]["sample_ids"]
    assert sorted(kept) == sorted(forget_stream[1].sample_ids) and len(kept) == 8  # drawn by the client, and here
    samples = source.train.only(kept)
    right = float((predict_logits(model, samples).argmax(1) == samples.labels).double().mean())
    assert shown[f"{FORGET}/Exp001"][-1][1] == right


DRAWS = """
name = "draws"
seed = 3
[run]
threads = 1
evaluate-every = 10
[data]
dataset = "digits"
[clients]
count = 2
[model]
name = "small-cnn"
[reporting]
loggers = ["csv"]
[unlearning]
retention = 1
repair-rounds = 0
max-repair-rounds = 0
max-attempts = 1
hold = { data = 0.5 }
sample-method = "finetune"
[gate.sample]
max-forget-accuracy = 1.0
max-retain-drop = 1.0
max-total-retain-drop = 1.0
[gate.class]
max-forget-accuracy = 0.9
max-retain-drop = 1.0
max-total-retain-drop = 1.0
[[timeline]]
train = { rounds = 1 }
[[timeline]]
forget = [{ client = 0, samples = 5, id = "a" }, { client = 0, samples = 60, id = "b", priority = 2 }]
[[timeline]]
train = { rounds = 1 }
[[timeline]]
forget = [{ client = 1, samples = 580, id = "held", priority = 9 }, { client = 0, sample-ids = [999999], id = "unknown" }, { client = 0, samples = 100, id = "c", priority = 5 }]
[[timeline]]
forget = { class = 7, id = "stays", method = "finetune", parameters = { learning-rate = 1e-9 } }
[[timeline]]
forget = [{ client = 0, samples = 20, id = "d" }, { client = 1, samples = 10, id = "e", priority = 1 }, { class = 8, id = "f" }]
"""
ARRIVING = """
[stream]
benchmark = "new-instances"
experiences = 2
"""


@pytest.mark.parametrize("stream", [False, True])
def test_reported_forget_sets_are_those_in_the_clients_stores(tmp_path: Path, stream: bool) -> None:
    """Two entries at one place, priorities, and requests that are held, rejected, or fail between draws."""
    text = DRAWS.replace("[[timeline]]", ARRIVING + "[[timeline]]", 1) if stream else DRAWS
    for number in (1, 2) if stream else ():
        text = text.replace("{ rounds = 1 }", f"{{ experience = {number}, rounds = 1 }}", 1)
    (tmp_path / "draws.toml").write_text(text)
    scenario, out = load_scenario(str(tmp_path / "draws.toml")), tmp_path / "out"
    shown: list[RunReport] = []
    close = RunReport.close

    def kept(report: RunReport) -> None:
        shown.append(report)
        close(report)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(RunReport, "close", kept)
        results = run_in_process(scenario, out)
    how = {item.id: item.status for item in results.requests}
    assert how == {
        **dict.fromkeys("abcdef", "committed"), "held": "held", "unknown": "rejected", "stays": "failed"
    }  # fmt: skip
    stores = [stored_requests(out / "clients" / str(client) / "state.json") for client in (0, 1)]
    source = source_of(scenario.data)
    arrived = set().union(*experience_ids(benchmark_of(scenario, source))[: 1 if stream else None])
    found = {}
    for experience in shown[0]._requests.scenario.forget_stream:
        name = experience.request.id
        found[name] = set(experience.sample_ids)
        stored = {sample_id for store in stores for sample_id in store.get(name, {"sample_ids": ()})["sample_ids"]}
        assert found[name] == stored & (arrived if name in "ab" else stored), name
    assert set(found) == {*"abcdef", "stays"} and len(found["c"]) == 100
    assert found["stays"] & (found["d"] | found["e"]) == set()


def test_forget_samples_are_read_no_longer_than_their_holders_may(path: Path, tmp_path: Path) -> None:
    """As in results.json: of what was committed without retention there is nothing but test samples to look at."""
    out = tmp_path / "run"
    run_in_process(loaded(path, 'reporting.loggers=["csv"]', "unlearning.retention=none"), out)
    shown = curves(out)
    ended = {item.id: item.status for item in RunResults.load(out).requests}
    assert [ended[name] for name in ("r1", "r2", "stays", "r3")] == ["committed", "committed", "failed", "committed"]
    read = {name for name in shown if name.startswith(("Forget_Acc", "Membership", "Relapse"))}
    kinds = ("Forget_Acc_Exp", "Membership_AUC_Exp", "Relapse_Exp")
    assert read == {f"{kind}/eval_phase/forget_stream/Exp002" for kind in kinds}  # the one that failed
    assert len(shown[f"Test_{FORGET}/Exp000"]) == 5 and len(shown[f"Test_{FORGET}/Exp003"]) == 2


def test_the_ledger_is_closed_where_no_report_can_be_made(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Path] = []
    close = Ledger.close
    monkeypatch.setattr(Ledger, "close", lambda ledger: (closed.append(ledger.path), close(ledger))[1])
    out = tmp_path / "run"
    (out / "reports").mkdir(parents=True)
    (out / "reports" / "metrics.csv").write_text("mine")
    with pytest.raises(InvalidDataError, match=r"metrics\.csv is there"):
        run_in_process(loaded(path, LOGGERS), out)
    assert closed == [(out / "ledger.db").resolve()]


def test_planned_requests_keep_the_order_of_the_timeline(tmp_path: Path) -> None:
    (tmp_path / "draws.toml").write_text(DRAWS)
    scenario = load_scenario(str(tmp_path / "draws.toml"))
    forget_stream = forget_benchmark_of(scenario, source_of(scenario.data)).forget_stream
    names = [experience.request.id for experience in forget_stream]
    assert names[:4] == ["b", "a", "held", "c"] and names[4:] == ["stays", "e", "d", "f"]


def test_event_files_and_text_say_the_same(told: Path) -> None:
    read = EventAccumulator(str(told / "reports" / "tensorboard"), size_guidance={"scalars": 0, "images": 0}).Reload()
    shown = curves(told)
    assert set(read.Tags()["scalars"]) == set(shown)
    for name in (RETAIN, f"{FORGET}/Exp000", f"{FORGET}/Exp001"):
        assert [(point.step, pytest.approx(point.value)) for point in read.Scalars(name)] == shown[name]
    text = (told / "reports" / "text.log").read_text()
    headings = [line[3:-3] for line in text.split("\n") if line.startswith("== ")]
    assert [heading.split(": ")[1] for heading in headings] == [
        "training 1",
        "request r1 committed",
        "training 2",
        "request r2 committed",
        "request stays failed, r3 committed",
        "training 3",
    ]
    table = text.split(f"{MATRIX} = \n")[-1].split("\n")
    assert table[0].split() == ["r1", "r2", "stays", "r3"]
    assert [line.split()[0] for line in table[1:6]] == ["r1", "train:2", "r2", "stays+r3", "train:3"]
    assert f"{RETAIN} = {shown[RETAIN][-1][1]:.4f}" in text


def test_reporting_changes_nothing_about_a_run(told: Path, path: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run_in_process(loaded(path), out)
    assert without_times(out) == without_times(told)
    models = [{file.name: file.read_bytes() for file in (run / "checkpoints").iterdir()} for run in (out, told)]
    assert models[0] == models[1] and models[0]
    assert not (out / "reports").exists()


@pytest.mark.slow
@pytest.mark.parametrize("cut", ["note", "observe"])
def test_a_run_that_goes_on_reports_the_rest_once(
    told: Path, path: Path, tmp_path: Path, cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, scenario = tmp_path / "run", loaded(path, LOGGERS)
    whole: Callable[..., None] = getattr(RunReport, cut)

    def interrupted(self: RunReport, *args: Any) -> None:
        whole(self, *args)
        if len(curves(out).get(RETAIN, ())) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(RunReport, cut, interrupted)
        run_in_process(scenario, out)
    run_in_process(scenario, out)
    assert curves(out) == curves(told)
    assert without_times(out) == without_times(told)


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("reporting.loggers=['wandb']", "reporting.loggers[0]: 'wandb' was given; expected 'text', 'tensorboard' or 'csv'"),
        ("reporting.loggers='text'", "reporting.loggers: 'text' was given; expected"),
        ("reporting.logger=['text']", "reporting.logger: is not a known key; did you mean loggers?"),
    ],
)  # fmt: skip
def test_unknown_loggers_are_named(path: Path, override: str, problem: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        loaded(path, override)
    assert problem in str(caught.value) and "\n" not in str(caught.value)


def test_avalanche_is_imported_only_where_a_report_is_asked_for(tmp_path: Path) -> None:
    code = (
        "import sys; from fed_unlearn.simulations.cli import run_command\n"
        f"code = run_command(['run', {TINY!r}, '--set', 'timeline.0.train.rounds=1', '--out', sys.argv[1]])\n"
        "print(code, 'avalanche' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[-2].endswith("False"), done.stdout


def test_a_scenario_without_requests_can_be_reported(tmp_path: Path) -> None:
    plain = tmp_path / "plain.toml"
    plain.write_text(Path(TINY).read_text().split("[[timeline]]\nforget")[0].replace("rounds = 4", "rounds = 1"))
    out = tmp_path / "run"
    run_in_process(load_scenario(str(plain), [LOGGERS]), out)
    shown = curves(out)
    assert [step for step, _ in shown["Top1_Acc_Stream/eval_phase/test_stream"]] == [1]
    assert not any("forget" in name for name in shown) and scenario_run.LOG_FILE in {
        file.name for file in out.iterdir()
    }
