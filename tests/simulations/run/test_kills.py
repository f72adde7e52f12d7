"""Runs that are killed at random moments and resumed leave what a run without kills leaves; a sample of the trial."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TINY = str(Path("tests", "support", "tiny.toml"))
TRAIN = "{{train={{experience={0},rounds=2}}}}".format
THREE = f"timeline=[{TRAIN(1)},{TRAIN(2)},{{forget={{class=1}}}},{TRAIN(3)}]"
KINDS = {
    "digits": (TINY, "unlearning.method=boundary-shrink"),
    "digits-continual": ("digits-continual", "clients.count=3", "training.local-epochs=1", THREE),
    "digits-avalanche": ("digits-avalanche", "clients.count=2", "training.local-epochs=1", THREE),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_killed_runs_end_as_they_would_have(kind: str) -> None:
    scenario, *overrides = KINDS[kind]
    options = [part for value in overrides for part in ("--set", value)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.trials.kills", scenario, "--kills", "5", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("5 kills; ") and last.endswith(" equal")
