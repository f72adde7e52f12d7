"""The README's examples do what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from flwr.app import Context, RecordDict

from fed_unlearn import methods
from fed_unlearn.data.sources import load_source
from fed_unlearn.logits import predict_logits
from fed_unlearn.models import build_model
from fed_unlearn.seeding import isolated_random
from fed_unlearn.simulations.inprocess import InProcessGrid
from fed_unlearn.training import TrainingSettings, train_locally

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def block(start: str) -> str:
    [found] = [text for text in BLOCKS if text.lstrip().startswith(start)]
    return found


def test_flower_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    client: dict[str, object] = {}
    server: dict[str, object] = {}
    exec(block("# client_app.py"), client)
    exec(block("# server_app.py"), server)
    stores = [{"client-dir": str(tmp_path / str(number))} for number in range(3)]
    grid = InProcessGrid(client["app"], 3, node_configs=stores)  # type: ignore[arg-type]
    context = Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config={})
    server["app"](grid, context)  # type: ignore[operator]
    assert "committed Figures(forget_accuracy=0.0" in capsys.readouterr().out


def test_timeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    client: dict[str, object] = {}
    exec(block("# client_app.py"), client)
    stores = [{"client-dir": str(tmp_path / str(number))} for number in range(3)]
    context = Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config={})
    for status in ("committed", None):
        server: dict[str, object] = {}
        exec(block("# timeline.py"), server)
        server["app"](InProcessGrid(client["app"], 3, node_configs=stores), context)  # type: ignore[arg-type, operator]
        printed = capsys.readouterr().out
        ids = ("three", "five", "left") if status else ()
        assert printed == f"{dict.fromkeys(ids, status)} None\n", "run again, there is nothing left to do"


def test_without_a_federation(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    exec(block("import torch"), names)
    assert capsys.readouterr().out.startswith("True ")


def test_avalanche_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    with isolated_random(0):
        exec(block("# avalanche_script.py"), {})
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [(name, committed) for name, committed, *_ in printed] == [("ones", "True"), ("fours", "True")]
    assert all(float(before) > 0.9 and float(after) <= 0.05 for *_, before, after in printed)


def test_a_method_of_your_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods.METHODS, "_classes", methods.available())
    names: dict[str, object] = {"__name__": __name__}
    exec(block("from dataclasses import dataclass"), names)
    methods.register("my-method")(names["MyMethod"])  # type: ignore[type-var]
    digits = load_source("digits")
    model = build_model("small-cnn", class_count=10, image_shape=digits.image_shape)
    train_locally(model, digits.train, TrainingSettings(local_epochs=3), torch.Generator().manual_seed(0))
    forget, retain = digits.train.of_classes({3}), digits.train.of_classes(set(range(10)) - {3})
    outcome = methods.create("my-method", weight=0.2, max_steps=100).unlearn(model, forget, retain)
    known = (predict_logits(outcome.model, forget).argmax(dim=1) == 3).double().mean()
    assert float(known) < 0.1


def test_every_block_is_run() -> None:
    assert len(BLOCKS) == 6
