"""Real sweeps of tiny runs, killed with SIGKILL: they go on, and end with the tables of one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fed_unlearn.locks import RUN_LOCK
from fed_unlearn.simulations.cli import COMMITTED, INTERRUPTED, NOT_COMMITTED
from fed_unlearn.simulations.sweep.cells import wait_until_free

TINY = str(Path(__file__).parents[2] / "support" / "tiny.toml")
ORDER = (
    TINY,
    "--methods",
    "boundary-shrink,delete",
    "--seeds",
    "0-1",
    "--jobs",
    "2",
    "--set",
    "timeline.0.train.rounds=2",
)
_PATIENCE_SECONDS = 600.0
_MOST_SECONDS_TO_END = 10.0
"""Of a process that was killed, on a machine that has other things to do."""

pytestmark = pytest.mark.slow


def begin(out: Path, *order: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "fed_unlearn.simulations.cli", "sweep", *(order or ORDER), "--out", str(out)]
    with out.with_suffix(".txt").open("ab") as printed:
        return subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT, preexec_fn=take_interrupts)


def take_interrupts() -> None:
    """Shells start what they put into the background with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert process.poll() is None, "the sweep ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def logs(out: Path) -> str:
    return "".join(path.read_text() for path in out.rglob("seed*.log"))


def complete(out: Path) -> int:
    """Number of runs whose results are complete."""
    return sum(json.loads(path.read_text())["complete"] for path in out.rglob("results.json"))


def locks(out: Path) -> list[Path]:
    return list(out.rglob(RUN_LOCK))


def assert_nobody_works_in(out: Path) -> None:
    """Every run's lock becomes free in seconds, in the middle of the runs, although nothing but the sweep was killed."""
    begun = time.monotonic()
    for path in locks(out):
        wait_until_free(path.parent)
    assert time.monotonic() - begun < _MOST_SECONDS_TO_END


def tables(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("compare*"))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep that nothing stopped."""
    out = tmp_path_factory.mktemp("whole") / "sweep"
    assert begin(out).wait() == COMMITTED
    return out


def test_a_sweep_that_is_killed_twice_ends_with_the_same_tables(tmp_path: Path, whole: Path) -> None:
    out = tmp_path / "sweep"
    first = begin(out)
    wait_for(lambda: "round 1 of 2" in logs(out), first)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    assert locks(out) and not complete(out)
    assert_nobody_works_in(out)

    second = begin(out)
    wait_for(lambda: complete(out) > 0, second)
    second.send_signal(signal.SIGKILL)
    second.wait()
    assert complete(out) < 4
    assert_nobody_works_in(out)

    assert begin(out).wait() == COMMITTED
    assert len(tables(whole)) == 5 and tables(out) == tables(whole)


def test_an_interrupted_sweep_says_how_to_go_on_and_does(tmp_path: Path, whole: Path) -> None:
    out = tmp_path / "sweep"
    process = begin(out)
    wait_for(lambda: "round 1 of 2" in logs(out), process)
    process.send_signal(signal.SIGINT)
    assert process.wait() == INTERRUPTED
    assert_nobody_works_in(out)
    assert f"go on with: fed-unlearn sweep --resume {out}" in out.with_suffix(".txt").read_text()
    resumed = [sys.executable, "-m", "fed_unlearn.simulations.cli", "sweep", "--resume", str(out), "--jobs", "2"]
    assert subprocess.run(resumed, check=False, stdout=subprocess.DEVNULL).returncode == COMMITTED
    assert tables(out) == tables(whole)


def test_a_run_that_fails_is_kept_and_can_be_tried_again(tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    order = (TINY, "--methods", "delete", "--seeds", "0-1", "--jobs", "2", "--set", "timeline.0.train.rounds=1")
    blocked = out / "tiny" / "delete" / "seed1"
    blocked.parent.mkdir(parents=True)
    process = begin(out, *order)
    wait_for(lambda: (out / "sweep.json").is_file(), process)
    blocked.write_text("a file where a folder should be")
    assert process.wait() == NOT_COMMITTED
    assert "tiny, delete, seed 1: failed, exit code 2" in out.with_suffix(".txt").read_text()
    assert "is a file" in (out / "tiny" / "delete" / "seed1.log").read_text()
    blocked.unlink()
    assert begin(out, *order, "--retry-failed").wait() == COMMITTED
    assert os.path.exists(blocked / "results.json")
