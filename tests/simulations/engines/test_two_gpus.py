"""The scenario app on Ray with two GPUs that Ray is told of: two clients at one time, each with one of them."""

import json
from itertools import product
from pathlib import Path

import pytest
import watched_model

from fed_unlearn.simulations.cli import run_command

SUPPORT = Path(__file__).parents[2] / "support"


@pytest.mark.ray
def test_two_clients_work_on_two_gpus_at_one_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU is needed: Ray gives each worker one by CUDA_VISIBLE_DEVICES, and PyTorch falls back to the CPU."""
    passes = tmp_path / "passes"
    passes.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))
    monkeypatch.setenv(watched_model.LOG, str(passes))
    out = tmp_path / "run"
    scenario = ["run", str(SUPPORT / "tiny.toml"), "--out", str(out), "--set", "model.name=watched_model:build"]
    gpus = ["--engine", "ray", "--gpus", "2", "--gpus-per-client", "1"]
    assert run_command([*scenario, *gpus]) in (0, 1)  # whether so small a model forgets is not the question
    results = json.loads((out / "results.json").read_text())
    assert results["engine"] == "ray"
    used = {entry["cuda_visible_devices"] for entry in results["devices"] if entry["message"] == "train"}
    assert used == {"0", "1"}

    spans: dict[str, list[tuple[float, float]]] = {"0": [], "1": []}
    for file in passes.iterdir():
        for gpu, _, begun, ended in (line.split() for line in file.read_text().splitlines()):
            if gpu in spans:
                spans[gpu].append((float(begun), float(ended)))
    together = sum(a < d and c < b for (a, b), (c, d) in product(spans["0"], spans["1"]))
    assert together >= 10
