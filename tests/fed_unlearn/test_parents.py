from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

import pytest

_CHILD = "import os, sys, time; from fed_unlearn.parents import end_with; end_with({parent}); print('up', flush=True); time.sleep(60)"
_PARENT = f"""
import os, subprocess, sys, time
child = {_CHILD!r}
subprocess.Popen([sys.executable, "-c", child.format(parent=os.getpid())])
time.sleep(60)
"""


@pytest.mark.slow
def test_a_process_ends_with_its_parent_that_is_killed() -> None:
    """The child has the pipe alone once its parent is gone, so that the pipe ends with the child."""
    parent = subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"up\n"
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert select.select([parent.stdout], [], [], 5.0)[0], "the child lives on"
    assert parent.stdout.read() == b""


@pytest.mark.slow
def test_a_process_whose_parent_is_gone_ends_at_once() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _CHILD.format(parent=os.getpid() + 1)], capture_output=True, check=False
    )
    assert ended.returncode == -signal.SIGKILL and ended.stdout == b""
