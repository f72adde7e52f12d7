"""Runs of models whose tensors are unusual: served to the end, or refused before the first round."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fed_unlearn.simulations.cli import run_command
from fed_unlearn.simulations.run.results import RunResults

TINY = Path(__file__).parents[2] / "support" / "tiny.toml"


def run(folder: Path, model: str, *settings: str) -> int:
    changes = [item for setting in (f"model.name=odd_models:{model}", *settings) for item in ("--set", setting)]
    return run_command(["run", str(TINY), "--out", str(folder), *changes])


@pytest.mark.parametrize(
    ("model", "method"),
    [
        ("casting", "boundary-expanding"),
        ("bfloat16", "boundary-shrink"),
        ("float16", "boundary-expanding"),
        ("parallel", "boundary-shrink"),
        ("viewing", "boundary-shrink"),
        ("frozen_body", "boundary-expanding"),
    ],
)
def test_training_and_a_class_request_are_served(tmp_path: Path, model: str, method: str) -> None:
    assert run(tmp_path / "out", model, f"timeline.1.forget.method={method}") == 0
    results = RunResults.load(tmp_path / "out")
    (request,) = results.requests
    assert request.status == "committed" and request.before is not None and request.after is not None
    assert request.before.forget_accuracy is not None and request.before.forget_accuracy > 0.6
    assert request.after.forget_accuracy is not None and request.after.forget_accuracy <= 0.1
    assert request.after.retain_accuracy is not None and request.after.retain_accuracy > 0.6


def test_tensors_that_are_no_weights_come_through_as_they_were(tmp_path: Path) -> None:
    assert run(tmp_path / "out", "counting") == 0
    assert run_command(["export", str(tmp_path / "out"), str(tmp_path / "model.safetensors")]) == 0
    state = load_file(tmp_path / "model.safetensors")
    assert state["mask"].tolist() == [True, False] * 5 and state["empty"].shape == (0, 3)
    assert state["steps"].dtype == torch.int64 and state["steps"].shape == () and int(state["steps"]) > 0
    assert state["scale"].shape == () and float(state["scale"]) != 1


def test_complex_weights_are_refused_before_the_first_round(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "out", "complex_weights") == 2
    told = capsys.readouterr().err.strip()
    assert "array 'turn' of the model is of complex64" in told and "torch.view_as_real" in told
    assert "\n" not in told and not (tmp_path / "out" / "results.json").exists()


def test_a_last_batch_of_one_stops_no_client(tmp_path: Path) -> None:
    assert run(tmp_path / "out", "normalising", "clients.count=8", "training.batch-size=19") == 0
    log = (tmp_path / "out" / "log.txt").read_text()
    assert "did not train" not in log and "ValueError" not in log


def test_clients_that_cannot_train_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "out", "normalising", "training.batch-size=1") == 1
    told = capsys.readouterr()
    assert "client 0 did not train" in told.out + told.err and "client 1 did not train" in told.out + told.err
