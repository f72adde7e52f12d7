"""A ledger and a run folder are worked on by one process at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fed_unlearn import locks
from fed_unlearn.ledger import Ledger
from fed_unlearn.locks import LockedError, exclusive, ledger_lock
from fed_unlearn.requests import ForgetRequest

_HOLD = """
import os, sys
from pathlib import Path
from fed_unlearn.locks import ledger_lock
with ledger_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(ledger: Path) -> subprocess.Popen[str]:
    """A process that holds the lock of a ledger until it is ended."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(ledger)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_another_process_is_named_and_its_death_frees_the_lock(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    process = holder(ledger.path)
    try:
        with (
            pytest.raises(LockedError, match=f"in use by process {process.pid}; wait for its end"),
            ledger_lock(ledger.path),
        ):
            pass
        assert ledger.receive(ForgetRequest.for_class(3)) == "r1"
    finally:
        process.kill()
        process.communicate()
    with ledger_lock(ledger.path):
        assert (tmp_path / "ledger.db.lock").read_text() == str(os.getpid())


def test_one_thread_takes_a_lock_again_and_another_thread_does_not(tmp_path: Path) -> None:
    caught: list[Exception] = []

    def take() -> None:
        try:
            with exclusive(tmp_path / "lock", "it", "wait"):
                pass
        except LockedError as error:
            caught.append(error)

    with exclusive(tmp_path / "lock", "it", "wait"), exclusive(tmp_path / "lock", "it", "wait"):
        thread = threading.Thread(target=take)
        thread.start()
        thread.join()
    assert "another thread of this process" in str(caught[0])
    take()
    assert len(caught) == 1


@pytest.mark.parametrize(("left", "is_taken"), [(None, True), ("gone", True), ("alive", False)])
def test_without_locks_of_the_kernel_the_process_id_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str | None, is_taken: bool
) -> None:
    monkeypatch.setattr(locks, "_fcntl", None)
    monkeypatch.setattr(locks, "_msvcrt", None)
    if left is not None:
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        (tmp_path / "lock").write_text(str(ended.pid if left == "gone" else os.getppid()))
    if is_taken:
        with exclusive(tmp_path / "lock", "it", "wait"):
            assert (tmp_path / "lock").read_text() == str(os.getpid())
    else:
        with pytest.raises(LockedError, match=f"it is in use by process {os.getppid()}; wait"):
            exclusive(tmp_path / "lock", "it", "wait").__enter__()
