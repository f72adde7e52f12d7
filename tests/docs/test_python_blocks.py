"""The Python blocks of README and guides do what the pages say: every block of a page is run, in its order."""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from pages import REPOSITORY, block, blocks
from receipt_ledgers import write as write_ledger
from sample_results import RESULTS
from torch.utils.data import DataLoader

from fed_unlearn import ForgetRequest, methods
from fed_unlearn.audits.base import AUDITS
from fed_unlearn.data.sources import SOURCES, load_source
from fed_unlearn.logits import predict_logits
from fed_unlearn.models import build_model
from fed_unlearn.seeding import isolated_random
from fed_unlearn.simulations.cli import run_command
from fed_unlearn.simulations.inprocess import InProcessGrid
from fed_unlearn.simulations.tracking.base import TRACKERS
from fed_unlearn.strategies import ContinualUnlearning, Gate, Thresholds, UnlearningPlan, server_methods
from fed_unlearn.training import TrainingSettings, train_locally

Names = dict[str, Any]
CLIENT, SERVER, TIMELINE = "# client_app.py", "# server_app.py", "# timeline.py"
PAGES = {
    "README.md",
    "flower.md",
    "methods.md",
    "avalanche.md",
    "extending.md",
    "owners.md",
    "receipts.md",
    "watching.md",
    "report.md",
}


def run(page: str, names: Names, runners: Mapping[str, Callable[[str], None]] | None = None) -> Names:
    """Run a page's blocks one after another with the same names; those with a runner of their own by it."""
    for item in blocks("python", page):
        runner = (runners or {}).get(item.title)
        if runner is None:
            exec(compile(item.text, page, "exec"), names)
        else:
            runner(item.text)
    return names


@pytest.fixture(scope="module")
def digits_model() -> Names:
    """What a reader has already: data, and a model that knows it."""
    digits = load_source("digits")
    model = build_model("small-cnn", class_count=10, image_shape=digits.image_shape)
    train_locally(model, digits.train, TrainingSettings(local_epochs=5), torch.Generator().manual_seed(0))
    return {"digits": digits, "model": model}


def federation(app: ClientApp, folder: Path) -> InProcessGrid:
    return InProcessGrid(app, 3, node_configs=[{"client-dir": str(folder / str(number))} for number in range(3)])


def context() -> Context:
    return Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config={})


def test_every_page_with_python_is_run() -> None:
    assert {item.page for item in blocks("python")} == PAGES


def test_readme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], digits_model: Names
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(REPOSITORY / "tests" / "apps" / "quickstart")
    own = importlib.import_module("quickstart.task")
    names = {**digits_model, "Net": own.Net}
    names["load_data"] = functools.partial(own.load_data, batch_size=32)
    names["train_fn"] = functools.partial(own.train, epochs=2, lr=0.1)

    def my_training(message: Message, context: Context, loader: DataLoader[Any]) -> Message:
        model = own.Net()
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        names["train_fn"](model, loader, device="cpu")
        metrics = MetricRecord({"num-examples": len(loader.dataset)})
        return Message(RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message)

    def client(text: str) -> None:
        names.update(app=ClientApp(), my_training=my_training)
        exec(text, names)

    def server(text: str) -> None:
        arrays = ArrayRecord(own.Net().state_dict())
        with isolated_random(0):
            done = names | {"FedAvg": FedAvg, "grid": federation(names["app"], tmp_path), "arrays": arrays}
            exec(text, done)
        assert str(done["result"].requests[0].status) == "committed"

    def avalanche(text: str) -> None:
        outcomes = run_avalanche_lines(text)
        assert [(outcome.request.id, outcome.committed) for outcome in outcomes] == [("submitted-1", True)]

    run("README.md", names, {CLIENT: client, SERVER: server, "# avalanche_script.py": avalanche})
    assert capsys.readouterr().out.splitlines()[-1].startswith("True ")


def run_avalanche_lines(text: str) -> list[Any]:
    from avalanche.training import Naive

    guide, names = block("avalanche.md", "# avalanche_script.py"), {"Naive": Naive}
    exec(guide.partition("# After three")[0], names)
    model = build_model("small-cnn", class_count=10, image_shape=(1, 8, 8))
    names["settings"] = {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
        "criterion": torch.nn.CrossEntropyLoss(),
        "train_mb_size": 32,
        "train_epochs": 2,
    }
    with isolated_random(0):
        exec(text, names)
    [plugin] = [item for item in names["strategy"].plugins if type(item).__name__ == "UnlearningPlugin"]
    return list(plugin.outcomes)


@pytest.mark.slow
def test_flower_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    names: Names = {}

    def server(text: str) -> None:
        app: Names = {}
        exec(text, app)
        app["app"](federation(names["app"], tmp_path), context())
        assert "committed Figures(forget_accuracy=0.0" in capsys.readouterr().out

    def timeline(text: str) -> None:
        (tmp_path / "months").mkdir()
        monkeypatch.chdir(tmp_path / "months")  # stores of its own
        for status in ("committed", None):
            app: Names = {}
            exec(text, app)
            app["app"](federation(names["app"], Path.cwd()), context())
            ids = ("three", "five", "left") if status else ()
            printed = capsys.readouterr().out
            assert printed == f"{dict.fromkeys(ids, status)} None\n", "run again, there is nothing left to do"

    run("flower.md", names, {SERVER: server, TIMELINE: timeline})


def test_methods_page(capsys: pytest.CaptureFixture[str]) -> None:
    run("methods.md", {})
    assert capsys.readouterr().out.startswith("True ")


@pytest.mark.slow
def test_avalanche_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    with isolated_random(0):
        run("avalanche.md", {})
    printed = capsys.readouterr().out.splitlines()
    served = [line.split() for line in printed if line.startswith(("ones ", "fours "))]
    assert [(name, committed) for name, committed, *_ in served] == [("ones", "True"), ("fours", "True")]
    assert all(float(before) > 0.9 and float(after) <= 0.05 for *_, before, after in served)
    labels = load_source("digits").train.labels
    left = int((~torch.isin(labels, torch.tensor([1, 4]))).sum())
    assert f"{left} samples are left in the sums" in printed


@pytest.fixture
def extended(monkeypatch: pytest.MonkeyPatch) -> Names:
    """What the page about extending defines, registered for one test."""
    names = run("extending.md", {"__name__": __name__})
    for registry, name, defined in (
        (methods.METHODS, "my-method", "MyMethod"),
        (server_methods.SERVER_METHODS, "train-on", "TrainOn"),
        (SOURCES, "stripes", "Stripes"),
        (AUDITS, "mean-confidence", "MeanConfidence"),
    ):
        monkeypatch.setattr(registry, "_classes", registry.available())
        registry.register(name)(names[defined])
    return names


def test_owners_page() -> None:
    assert run("owners.md", {})["plan"].owners == UnlearningPlan().owners


def test_receipts_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    write_ledger(tmp_path / "ledger.db")
    assert run_command(["receipt", "issue", "ledger.db", "r1", "--out", "."]) == 0
    capsys.readouterr()
    names = run("receipts.md", {})
    assert capsys.readouterr().out.startswith("committed 0.0\n() (")
    (tmp_path / "r1.json").write_bytes(names["signed"].content + b" ")
    run("receipts.md", {})
    assert capsys.readouterr().out.startswith("refused: its bytes were changed")


def test_watching_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    TRACKERS.available()
    monkeypatch.setattr(TRACKERS, "_classes", dict(TRACKERS._classes))  # the page registers a class
    guide: Names = {}
    exec(block("flower.md", CLIENT), guide)
    names = {
        "grid": federation(guide["app"], tmp_path),
        "arrays": ArrayRecord(guide["task"].build_model(None).state_dict()),
    }
    exec(block("watching.md", "# lines.py"), names)
    exec(block("watching.md", SERVER), names)
    lines = (tmp_path / "server" / "tracking" / "lines.txt").read_text().splitlines()
    rows = (tmp_path / "server" / "tracking" / "metrics.csv").read_text().splitlines()[1:]
    assert [line.split()[:2] for line in lines] == [[row.split(",")[0], row.split(",")[2]] for row in rows]
    assert lines and names["result"].complete


def test_the_page_of_a_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    RESULTS.save(folder)
    page = run("report.md", {})["make_page"](folder)
    assert page == tmp_path / "run.html"
    assert '<section id="summary"' in page.read_text()


@pytest.mark.usefixtures("extended")
def test_a_method_of_your_own(digits_model: Names) -> None:
    digits, model = digits_model["digits"], digits_model["model"]
    forget, retain = digits.train.of_classes({3}), digits.train.of_classes(set(range(10)) - {3})
    outcome = methods.create("my-method", weight=0.2, max_steps=100).unlearn(model, forget, retain)
    known = (predict_logits(outcome.model, forget).argmax(dim=1) == 3).double().mean()
    assert float(known) < 0.1


@pytest.mark.usefixtures("extended")
def test_a_server_method_of_your_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    guide: Names = {}
    exec(block("flower.md", CLIENT), guide)
    anything = Thresholds(max_forget_accuracy=None, max_retain_drop=None, max_total_retain_drop=None)
    strategy = ContinualUnlearning(
        FedAvg(fraction_evaluate=0.0),
        ledger=tmp_path / "ledger.db",
        gate=Gate(client_thresholds=anything),
        plan=UnlearningPlan(client_method="train-on", parameters={"train-on": {"rounds": 2}}),
    )
    grid = federation(guide["app"], tmp_path)
    strategy.start(grid, initial_arrays=ArrayRecord(guide["task"].build_model(None).state_dict()), num_rounds=1)
    strategy.submit(ForgetRequest.for_client(1))
    [outcome] = strategy.start(grid, num_rounds=0).requests
    assert (outcome.status, outcome.method) == ("committed", "train-on")


def test_a_start_of_your_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    guide: Names = {}
    exec(block("flower.md", CLIENT), guide)
    arrays = ArrayRecord(guide["task"].build_model(None).state_dict())
    grid = federation(guide["app"], tmp_path)
    exec(block("flower.md", "# own_start.py"), guide)
    result = guide["train"](grid, arrays)
    assert sorted(result.train_metrics_clientapp) == [] and set(result.arrays) == set(arrays)
    assert json.loads((tmp_path / "results.json").read_text())["round"] == 3


@pytest.mark.usefixtures("extended")
def test_a_data_source_of_your_own() -> None:
    source = load_source("stripes:400")
    assert (len(source.train), len(source.test), source.class_names) == (400, 100, ("horizontal", "vertical", "both"))
    assert source.fingerprint == load_source("stripes:400").fingerprint != load_source("stripes:401").fingerprint


@pytest.mark.usefixtures("extended")
def test_an_audit_of_your_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    guide: Names = {}
    exec(block("flower.md", CLIENT), guide)
    strategy = ContinualUnlearning(FedAvg(fraction_evaluate=0.0), ledger=tmp_path / "ledger.db")
    grid = federation(guide["app"], tmp_path)
    strategy.start(grid, initial_arrays=ArrayRecord(guide["task"].build_model(None).state_dict()), num_rounds=1)
    strategy.submit(ForgetRequest.for_class(3))
    [outcome] = strategy.start(grid, num_rounds=0).requests
    assert outcome.before.extra["mean-confidence"] is not None
    assert 0 < outcome.before.extra["mean-confidence"] < 1


PACKAGE = REPOSITORY / "tests" / "support" / "extension_package"


def test_the_examples_are_those_of_the_package_that_the_tests_install() -> None:
    files = {path.name: path.read_text(encoding="utf-8") for path in PACKAGE.glob("my_package/my_*.py")}
    shown = {item.title.removeprefix("# "): item.text.partition("\n")[2] for item in blocks("python", "extending.md")}
    assert shown == files
    [entry_points] = blocks("toml", "extending.md")
    assert entry_points.text in (PACKAGE / "pyproject.toml").read_text(encoding="utf-8")
