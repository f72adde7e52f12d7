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
FILES = {"after a file .html", "after a file .json"}
EVERY = {f"after {step}" for step in STEPS} | {f"{message} is done" for message in MESSAGES} | FILES


def runs_of(folder: Path) -> list[dict[str, object]]:
    """The run that nothing cuts short, and one killed at a point of each name and gone on with."""
    ended = subprocess.run(
        [sys.executable, "crashing.py", str(folder)], cwd=SUPPORT, capture_output=True, text=True, timeout=600
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]


@pytest.mark.slow
def test_killed_anywhere_it_ends_with_the_same_model_and_no_request_is_lost_or_applied_twice(
    tmp_path: Path,
) -> None:
    whole, *killed = runs_of(tmp_path)
    assert whole["status"] == {
        "class": "committed",
        "samples-0": "committed",
        "samples-1": "committed",
        "impossible": "rejected",
        "in-vain": "failed",
        "client": "committed",
    }
    assert whole["receipts"] == [
        *("class committed 1", "client committed 1", "sample committed 1", "sample committed 1"),
        *("sample failed 1", "sample rejected 1"),
    ]
    points = list(map(str, whole["points"]))  # type: ignore[call-overload]
    assert set(points) >= EVERY, "the run passes every step in the life of a request"
    where = {points[int(str(run["point"])) - 1]: run for run in killed}
    assert set(where) >= EVERY and len(where) == len(killed)
    for name, run in where.items():
        assert run["digest"] == whole["digest"], name
        assert {key: run[key] for key in ("status", "attempts", "commits")} == {
            key: whole[key] for key in ("status", "attempts", "commits")
        }, name
        assert run["problem"] is None, f"{name}: the ledger's chain is whole"
        assert run["receipts"] == whole["receipts"], f"{name}: each request has its receipt"
