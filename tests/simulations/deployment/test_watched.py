"""What `launch` starts ends with it, even where `launch` was killed before it could be asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

STARTS_AND_IS_KILLED = """
import os, signal, subprocess, sys
from fed_unlearn.simulations.deployment.watched import command
child = command("flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", "0", "--database", sys.argv[1])
slow = [child[0], "-c", "import os, sys, time; time.sleep(0.3); os.execv(sys.argv[1], sys.argv[1:])", *child]
subprocess.Popen(slow, start_new_session=True)
os.kill(os.getpid(), signal.SIGKILL)
"""

ANSWERS = """
import sys, time
from fed_unlearn.simulations.deployment.nodes import executor
executor._refresh = lambda threads: time.sleep(60)
executor.answer_message(int(sys.argv[1]), executor.RuntimeApi(address="127.0.0.1:1"), "", 1, b"", None)
"""


def gone() -> int:
    """The id of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def test_it_ends_where_its_parent_was_killed_before_it_ran(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STARTS_AND_IS_KILLED, str(tmp_path / "state.db")], capture_output=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == -9
    assert b"Traceback" not in done.stderr  # the child held the pipes until it ended


@pytest.mark.slow
def test_a_message_ends_where_its_executor_was_killed_before_it_ran() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        subprocess.run([sys.executable, "-c", ANSWERS, str(gone())], capture_output=True, timeout=50, check=True)
    assert (caught.value.returncode, caught.value.stderr) == (1, b"")
