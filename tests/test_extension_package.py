"""The example package of the guide to extending: built into a wheel, installed beside the project, and used.

tests/docs checks that its files are what the guide shows.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent / "support" / "extension_package"
SCENARIO = """
name = "extended"

[data]
dataset = "stripes:300"

[clients]
count = 3

[model]
name = "small-cnn"

[training]
learning-rate = 0.05

[unlearning.parameters.train-on]
rounds = 2

[gate.class]
max-forget-accuracy = 0.1

[[timeline]]
train = { rounds = 2 }

[[timeline]]
forget = { client = 2, method = "train-on" }

[[timeline]]
forget = { class = 1, method = "my-method" }
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example package as pip installs its wheel."""
    folder = tmp_path_factory.mktemp("extension")
    shutil.copytree(PACKAGE, folder / "source")  # setuptools writes into what it builds
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", folder / "wheels", folder / "source"], check=True)
    [wheel] = (folder / "wheels").iterdir()
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True)
    return folder / "site"


def run(site: Path, *arguments: str) -> str:
    """What the command line prints with the package installed."""
    environment = {**os.environ, "PYTHONPATH": str(site), "COLUMNS": "120"}
    command = [sys.executable, "-m", "fed_unlearn.simulations.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "name", "does"),
    [
        ("methods", "my-method", "Ascend on what is to be forgotten, descend on the rest."),
        ("methods", "train-on", "Ordinary rounds of the clients that stay: a baseline,"),
        ("sources", "stripes:COUNT", "Images of horizontal stripes, of vertical stripes, and of both."),
        ("audits", "mean-confidence", "Mean probability of the true class, over what was to be forgotten."),
    ],
)
def test_each_is_listed_with_its_distribution(site: Path, command: str, name: str, does: str) -> None:
    lines = [" ".join(line.split()) for line in run(site, command).splitlines()]
    start = lines.index(name)
    assert lines[start + 1].startswith(f"does {does}")
    assert "from my-package" in lines[start : start + 10]


@pytest.mark.slow
def test_each_is_named_in_a_scenario_and_in_the_results(site: Path, tmp_path: Path) -> None:
    (tmp_path / "scenario.toml").write_text(SCENARIO)
    table = run(site, "run", str(tmp_path / "scenario.toml"), "--out", str(tmp_path / "out"))
    assert "train-on" in table and "my-method" in table
    results = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    served = [(request["method"], request["status"]) for request in results["requests"]]
    assert served == [("train-on", "committed"), ("my-method", "committed")]
    before, after = (results["requests"][1][model]["extra"]["mean-confidence"] for model in ("before", "after"))
    assert before > 0.5 > after
    run_scenario = tomllib.loads((tmp_path / "out" / "scenario.toml").read_text(encoding="utf-8"))
    assert run_scenario["data"]["dataset"] == "stripes:300"
