"""A server that is killed at any point goes on to the same model: no request lost, none applied twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parents[2] / "support"


STEPS = (
    "received",
    "unlearning",
    "repairing",
    "auditing",
    "committing",
    "rolled-back",
    "model-accepted",
    "client-departed",  # the last event in the commit of a client
)
MESSAGES = ("train.default", "train.unlearn", "train.repair", "train.confirm", "train.discard", "evaluate.audit")
EVERY = {f"after {step}" for step in STEPS} | {f"{message} is done" for message in MESSAGES}
FEW = {"train.confirm is done", "after committing"}


@pytest.fixture(
    scope="module", params=[pytest.param(FEW, id="few"), pytest.param(EVERY, id="every", marks=pytest.mark.slow)]
)
def names(request: pytest.FixtureRequest) -> set[str]:
    """Where runs are killed, at least."""
    chosen: set[str] = request.param
    return chosen


@pytest.fixture(scope="module")
def runs(names: set[str], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """The run that nothing cuts short, and one killed at each kind of point and gone on with."""
    command = [sys.executable, "crashing.py", str(tmp_path_factory.mktemp("crashes")), *(names if names is FEW else ())]
    ended = subprocess.run(command, cwd=SUPPORT, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]


def test_the_run_passes_every_step_in_the_life_of_a_request(names: set[str], runs: list[dict[str, object]]) -> None:
    whole, *killed = runs
    assert whole["status"] == {
        "class": "committed",
        "samples-0": "committed",
        "samples-1": "committed",
        "impossible": "rejected",
        "in-vain": "failed",
        "client": "committed",
    }
    passed = {whole["points"][int(str(run["point"])) - 1] for run in killed}  # type: ignore[index]
    assert set(whole["points"]) >= EVERY  # type: ignore[call-overload]
    assert names <= passed and len(killed) >= len(names)


def test_killed_anywhere_it_ends_with_the_same_arrays(runs: list[dict[str, object]]) -> None:
    whole, *killed = runs
    where = {str(whole["points"][int(str(run["point"])) - 1]): run for run in killed}  # type: ignore[index]
    assert {name: run["digest"] for name, run in where.items()} == dict.fromkeys(where, whole["digest"])


def test_no_request_is_lost_and_none_is_applied_twice(runs: list[dict[str, object]]) -> None:
    whole, *killed = runs
    for run in killed:
        assert {name: run[name] for name in ("status", "attempts", "commits")} == {
            name: whole[name] for name in ("status", "attempts", "commits")
        }
        assert run["problem"] is None, "the ledger's chain is whole"
