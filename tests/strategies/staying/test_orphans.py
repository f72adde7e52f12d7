"""A ServerApp's process ends after the process that Flower started it from, even where it waits for ever."""

from __future__ import annotations

import subprocess
import sys

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


def test_other_processes_are_left_alone() -> None:
    code = "from fed_unlearn.strategies.staying.orphans import end_with_superlink as watch; print(watch())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
