import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger import migration as ledger_migration
from fed_unlearn.requests import ForgetRequest

T = TypeVar("T")

REQUESTS = 1000
BLOCK = 50

# Holds its view of the file open nearly always, so that the log cannot be folded in, and reads all of it.
READER = """
import sqlite3, sys, time
from fed_unlearn.ledger import Ledger
connection, ledger, rounds = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60), Ledger(sys.argv[1]), 0
print("ready", flush=True)
while True:
    connection.execute("BEGIN")
    connection.execute("SELECT COUNT(*), SUM(LENGTH(facts)) FROM events").fetchall()
    time.sleep(0.02)
    assert not [problem for problem in ledger.verify().problems if not problem.startswith('table state')]
    assert ledger.pending() is not None
    connection.execute("ROLLBACK")
    rounds += 1
    print(rounds, flush=True)
"""

# Takes the lock for writing as soon as it is free, without waiting its turn, and sits on it a quarter of the time.
WRITER = """
import sys, time
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.ledger import Ledger
ledger, rounds = Ledger(sys.argv[1]), 0
ledger._connection.execute("PRAGMA busy_timeout=0")
print("ready", flush=True)
while True:
    try:
        with ledger.transaction():
            ledger.note("noise", {"round": rounds, "client": "st-vincent"})
            time.sleep(0.002)
    except FedUnlearnError:
        continue
    rounds += 1
    print(rounds, flush=True)
    time.sleep(0.006)
"""


HOLDER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
time.sleep(1)
connection.execute("ROLLBACK")
"""


@contextmanager
def hostile(path: Path) -> Iterator[list[Path]]:
    """A reader and a writer beside; the files are what they print."""
    logs = [path.with_name("reader.txt"), path.with_name("writer.txt")]
    processes = []
    try:
        for script, log in zip((READER, WRITER), logs, strict=True):
            with log.open("w") as output:
                arguments = [sys.executable, "-c", script, str(path)]
                processes.append(subprocess.Popen(arguments, stdout=output, stderr=subprocess.STDOUT))
        while not all(log.read_text().startswith("ready") for log in logs):
            assert all(process.poll() is None for process in processes), [log.read_text() for log in logs]
            time.sleep(0.01)
        yield logs
        assert all(process.poll() is None for process in processes), [log.read_text() for log in logs]
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk: the temporary one may lie in memory, where syncing costs nothing."""
    if not os.access("/var/tmp", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder)


def test_a_thousand_requests_beside_a_hostile_reader_and_writer(disk: Path) -> None:
    path = disk / "ledger.db"
    ledger = Ledger(path)
    bare = sqlite3.connect(path, isolation_level=None, timeout=60)  # the same disk, log, reader and writer
    bare.execute("PRAGMA synchronous=FULL")
    body = ForgetRequest.for_class(3).to_json()
    ledger_seconds = bare_seconds = 0.0
    with hostile(path) as logs:
        for start in range(0, REQUESTS, BLOCK):
            began = time.perf_counter()
            for number in range(start, start + BLOCK):
                bare.execute("BEGIN IMMEDIATE")
                bare.execute("INSERT INTO state VALUES (?, ?)", (f"r{number}", body))
                bare.execute("COMMIT")
            bare_seconds += time.perf_counter() - began
            began = time.perf_counter()
            for number in range(start, start + BLOCK):
                assert ledger.receive(ForgetRequest.for_class(number)) == f"r{number + 1}"
            ledger_seconds += time.perf_counter() - began
        rounds = [int("0" + log.read_text().split()[-1].removeprefix("ready")) for log in logs]
        bare.execute("DELETE FROM state")  # its rows, which nobody sealed
        listed, list_seconds = timed(ledger.entries)
        verification, verify_seconds = timed(ledger.verify)
    figures = (
        f"{REQUESTS / ledger_seconds:.0f} requests and {REQUESTS / bare_seconds:.0f} bare inserts a second; list in"
        f" {list_seconds:.3f} s, verified in {verify_seconds:.3f} s; rounds of reader and writer {rounds}"
    )
    print(figures)
    assert [entry.id for entry in listed] == [f"r{number}" for number in range(1, REQUESTS + 1)]
    assert verification.problem is None and verification.events >= REQUESTS + rounds[1]
    assert min(rounds) >= 10, figures
    assert bare_seconds / ledger_seconds >= 0.3, figures
    assert list_seconds < 1 and verify_seconds < 2, figures
    bare.close()
    ledger.close()


def timed(call: Callable[[], T]) -> tuple[T, float]:
    began = time.perf_counter()
    value = call()
    return value, time.perf_counter() - began


def test_the_thousandth_request_costs_what_the_first_ones_do(tmp_path: Path) -> None:
    """In instructions of SQLite's machine, which no other process disturbs."""
    ledger = Ledger(tmp_path / "ledger.db")
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    ledger._connection.set_progress_handler(count, 1)
    costs = []
    for number in range(1000):
        steps = 0
        ledger.receive(ForgetRequest.for_class(number, priority=number % 3))
        costs.append(steps)
    assert max(costs[900:]) <= 1.2 * max(costs[10:110])
    ledger.close()


def test_a_writer_waits_for_another_process_and_says_so_when_it_does_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = Ledger(tmp_path / "ledger.db")
    monkeypatch.setattr(ledger_migration, "BUSY_SECONDS", 0.2)
    impatient = Ledger(tmp_path / "ledger.db")
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "ledger.db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None and other.stdout.readline() == "locked\n"
    with pytest.raises(FedUnlearnError, match="another process has kept the ledger locked for") as caught:
        impatient.receive(ForgetRequest.for_class(1))
    assert "\n" not in str(caught.value) and impatient.entries() == []
    assert waiting.receive(ForgetRequest.for_class(2)) == "r1"
    assert other.wait() == 0
    assert impatient.receive(ForgetRequest.for_class(3)) == "r2"
    other.stdout.close()
    waiting.close()
    impatient.close()


ADDER = """
import sys
from fed_unlearn.ledger import Ledger
from fed_unlearn.requests import ForgetRequest
ledger = Ledger(sys.argv[1])
while True:
    print(ledger.receive(ForgetRequest.for_class(3)), flush=True)
"""


@pytest.mark.parametrize("acknowledged", [1, 7, 30])
def test_what_was_acknowledged_outlives_a_kill(tmp_path: Path, acknowledged: int) -> None:
    adder = subprocess.Popen([sys.executable, "-c", ADDER, str(tmp_path / "l.db")], stdout=subprocess.PIPE, text=True)
    assert adder.stdout is not None
    for _ in range(acknowledged):
        adder.stdout.readline()
    adder.kill()
    printed = acknowledged + len(adder.communicate()[0].split())
    ledger = Ledger(tmp_path / "l.db")
    ids = ledger.open_ids()
    assert ids[:printed] == [f"r{number}" for number in range(1, printed + 1)] and len(ids) <= printed + 1
    assert ledger.verify().problem is None and len(ledger.events()) == len(ids)
    ledger.close()
