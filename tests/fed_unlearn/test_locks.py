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
from fed_unlearn.locks import LockedError, exclusive, ledger_lock, who_works_on, worker_on
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


def test_the_id_of_a_killed_holder_that_another_process_has_now_says_nothing(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.db"
    assert who_works_on(ledger) is None
    process = holder(ledger)
    try:
        assert who_works_on(ledger) == process.pid
    finally:
        process.kill()
        process.communicate()
    lock = tmp_path / "ledger.db.lock"
    for left in (process.pid, os.getppid(), os.getpid()):
        lock.write_text(str(left))
        assert who_works_on(ledger) is None
        assert lock.read_text() == str(left)


def test_a_holder_whose_id_means_nothing_here_is_seen(tmp_path: Path) -> None:
    """As one in another container, which shares the folder."""
    ledger, ended = tmp_path / "ledger.db", subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    process = holder(ledger)
    try:
        (tmp_path / "ledger.db.lock").write_text(str(ended.pid))
        assert who_works_on(ledger) == ended.pid
    finally:
        process.kill()
        process.communicate()


def test_this_process_works_on_what_it_has_locked(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.db"
    with ledger_lock(ledger):
        assert who_works_on(ledger) == os.getpid()
        with ledger_lock(ledger):
            first = worker_on(ledger)
        assert worker_on(ledger) == first
    assert who_works_on(ledger) is None
    with ledger_lock(ledger):
        assert worker_on(ledger) != first


_LOOK = """
import sys
from pathlib import Path
from fed_unlearn.locks import who_works_on
print("looks", flush=True)
while True:
    who_works_on(Path(sys.argv[1]))
"""


def test_who_looks_all_the_time_keeps_nobody_from_the_lock(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.db"
    (tmp_path / "ledger.db.lock").touch()
    looking = subprocess.Popen([sys.executable, "-c", _LOOK, str(ledger)], stdout=subprocess.PIPE, text=True)
    try:
        assert looking.stdout is not None
        assert looking.stdout.readline() == "looks\n"
        for _ in range(300):
            with ledger_lock(ledger):
                assert who_works_on(ledger) == os.getpid()
    finally:
        looking.kill()
        looking.communicate()


@pytest.mark.parametrize(("left", "expected"), [("gone", False), ("alive", True)])
def test_without_locks_of_the_kernel_a_process_that_lives_counts_as_the_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str, expected: bool
) -> None:
    monkeypatch.setattr(locks, "_fcntl", None)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    process = os.getppid() if left == "alive" else ended.pid
    (tmp_path / "ledger.db.lock").write_text(str(process))
    assert who_works_on(tmp_path / "ledger.db") == (process if expected else None)
