"""A ServerApp's process ends after the process that Flower started it from, even where it waits for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fault_trials import CLASS, trained
from staying import FAST, in_turns

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.strategies.staying import server

CHILD = """
import sys, threading, os
sys.argv = ["flwr-serverapp", "--parent-pid", str(os.getppid())]
from fed_unlearn.strategies.staying import orphans
orphans._GRACE_SECONDS = 0.2
assert orphans.end_with_superlink()
print(os.getpid(), flush=True)
threading.Event().wait()
"""
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {CHILD!r}]); sys.stdin.readline()"


def test_it_ends_with_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    assert parent.stdout.read() == ""  # the child held the other end of the pipe until it ended


def test_flowers_signal_after_the_end_of_its_superlink_is_no_order_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flower raises SIGINT in the ServerApp then. The run has to fail, so that it is run again."""
    trial = trained(tmp_path)
    monkeypatch.setattr(server, "superlink_is_gone", lambda: True)
    with pytest.raises(FedUnlearnError, match="nobody ordered a stop; run the app again"):
        in_turns(trial, lambda ledger: os.kill(os.getpid(), signal.SIGINT))
    monkeypatch.setattr(server, "superlink_is_gone", lambda: False)
    trial.strategy.serve(trial.grid, settings=FAST, on_turn=lambda _: os.kill(os.getpid(), signal.SIGINT))
    trial.strategy.submit(CLASS)
    monkeypatch.setattr(server, "superlink_is_gone", lambda: True)  # an operator's order counts, whatever is gone
    in_turns(trial)
    assert trial.status() is Status.COMMITTED


GONE = """
import sys, os, time
sys.argv = ["flwr-serverapp", "--parent-pid", str(os.getppid())]
from fed_unlearn.strategies.staying import orphans
orphans._flower_parent()
print(orphans.superlink_is_gone(), flush=True)
while not orphans.superlink_is_gone(): time.sleep(0.05)
print("gone", flush=True)
"""


def test_it_is_known_that_the_superlink_is_gone() -> None:
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {GONE!r}]); sys.stdin.readline()"
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "False\n"
    parent.kill()
    parent.wait()
    assert parent.stdout.read() == "gone\n"


def test_other_processes_are_left_alone() -> None:
    code = "from fed_unlearn.strategies.staying.orphans import end_with_superlink as watch; print(watch())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
