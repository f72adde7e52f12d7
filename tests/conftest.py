"""What holds for every test: one thread a process, homes of their own, and two tiers.

``pytest`` runs all tests but those that are marked ``slow``, on all cores: the whole behaviour. ``pytest -m slow`` runs
the others: kills at every transition, 200 random timelines, real SuperLink and Ray processes, and whole scripts.
``pytest -m ""`` runs both tiers. ``-n 0`` runs either in one process.
"""

from __future__ import annotations

import fcntl
import gc
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before torch is imported, here and in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
_homes = tempfile.TemporaryDirectory(prefix="fed-unlearn-tests-")  # one for each worker: they run side by side
for _name in ("FLWR_HOME", "FED_UNLEARN_HOME"):
    os.environ[_name] = str(Path(_homes.name) / _name.lower())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever starts Ray is slow."""
    for item in items:
        if item.get_closest_marker("ray"):
            item.add_marker("slow")


@pytest.fixture(autouse=True)
def one_ray_at_a_time(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Ray takes all cores: other workers' tests that start it wait."""
    if request.node.get_closest_marker("ray") is None:
        yield
        return
    with (tmp_path_factory.getbasetemp().parent / "ray.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="module", autouse=True)
def little_garbage() -> None:
    """Some of Flower's strategies collect garbage for every reply: not all that was imported so far, then."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """The same sums whatever a test before has set, and workers that do not get in each other's way."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def unsynced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is synced to disk where whole federations run: no power goes there, and there are many hundreds of them."""
    if request.path.relative_to(Path(__file__).parent).parts[0] not in ("strategies", "simulations"):
        return
    from fed_unlearn.ledger import file as ledger_file
    from fed_unlearn.ledger.key import LedgerKey

    open_ledger = ledger_file.open_ledger

    def opened(path: Path, key_file: Path, *, create: bool = True) -> tuple[sqlite3.Connection, LedgerKey]:
        connection, key = open_ledger(path, key_file, create=create)
        connection.execute("PRAGMA synchronous=OFF")
        return connection, key

    monkeypatch.setattr(ledger_file, "open_ledger", opened)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
