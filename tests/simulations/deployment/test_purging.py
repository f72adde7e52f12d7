"""Arrays leave a SuperLink's database: what is stored, what Flower deleted, and what the write-ahead log still has."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.server.superlink.linkstate import SqlLinkState
from flwr.supercore.constant import TaskType
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree, no_object_id_recompute
from flwr.supercore.object_store.sql_object_store import SqlObjectStore
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation import NoOpFederationManager
from lone_supernode import free_port

from fed_unlearn.errors import StorageError
from fed_unlearn.simulations.cli import run_command
from fed_unlearn.simulations.deployment.purging import purge_superlink
from fed_unlearn.simulations.engines.commands import environment_of, script


class Database:
    """A SuperLink's database, written by Flower's own classes, and the bytes of the arrays that were in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = SqlObjectStore(str(path))
        self.store.initialize()
        self.state = SqlLinkState(str(path), NoOpFederationManager(), self.store)
        self.state.initialize()
        self._generator = np.random.default_rng(0)

    def run(self, *, finished: bool) -> int:
        run = self.state.create_run("a/b", "1", "hash", {}, "@none/default", None, "me", TaskType.SERVER_APP)
        [found] = self.state.get_run_info(run_ids=[run])
        task = found.primary_task_id
        assert task is not None and self.state.claim_task(task) and self.state.activate_task(task)
        if finished:
            assert self.state.finish_task(task, "completed", "")
        return run

    def message(self, run: int) -> tuple[str, bytes]:
        """Store a message with an array; return its id, and bytes of the array that occur nowhere else."""
        values = self._generator.integers(0, 256, 200_000, dtype=np.uint8)
        TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = run, 1, 1
        content = RecordDict({"arrays": ArrayRecord({"w": Array(values)}), "config": ConfigRecord({"a": 1})})
        message = Message(content, dst_node_id=2, message_type="train")
        with no_object_id_recompute():
            self.store.preregister(run, get_object_tree(message))
            for name, item in get_all_nested_objects(message).items():
                self.store.put(name, item.deflate())
        return message.object_id, values.tobytes()[100_000:100_064]

    def copied(self, folder: Path) -> Path:
        """The files as they would be after the SuperLink was killed."""
        folder.mkdir()
        for file in self.path.parent.glob(f"{self.path.name}*"):
            shutil.copy(file, folder)
        return folder / self.path.name


def holders(path: Path, canary: bytes) -> list[str]:
    return [file.name for file in path.parent.glob(f"{path.name}*") if canary in file.read_bytes()]


def test_no_array_of_a_finished_run_is_left(tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    database = Database(tmp_path / "live" / "state.db")
    finished = database.run(finished=True)
    going_on = database.run(finished=False)
    _, stored = database.message(finished)
    deleted_id, deleted = database.message(finished)
    _, kept = database.message(going_on)
    database.store.delete(deleted_id)
    path = database.copied(tmp_path / "killed")
    assert all(holders(path, canary) for canary in (stored, deleted, kept))

    done = purge_superlink(path)

    assert (holders(path, stored), holders(path, deleted)) == ([], [])
    assert holders(path, kept) == ["state.db"]
    assert (done.runs, done.kept_runs, done.objects) == (
        1,
        (str(going_on),),
        5,
    )  # message, arrays, array, chunk, config
    assert done.sought >= 1
    assert done.bytes_after < done.bytes_before

    assert purge_superlink(path, unfinished=True).objects == 6
    assert holders(path, kept) == []


def test_flower_goes_on_with_the_database(tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    before = Database(tmp_path / "live" / "state.db")
    run = before.run(finished=True)
    before.message(run)
    path = before.copied(tmp_path / "killed")
    purge_superlink(path)
    after = Database(path)
    assert [found.run_id for found in after.state.get_run_info(run_ids=[run])] == [run]
    name, canary = after.message(after.run(finished=False))
    assert canary in (after.store.get(name) or b"") or len(after.store) > 0
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]


def test_a_database_in_use_is_refused_and_unchanged(tmp_path: Path) -> None:
    database = Database(tmp_path / "state.db")
    _, canary = database.message(database.run(finished=True))
    with pytest.raises(StorageError, match="is in use; stop the SuperLink"):
        purge_superlink(database.path)
    assert holders(database.path, canary)


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "is no file"), (b"# a text", "it is no SQLite file"), ("CREATE TABLE run (a)", "it has no table")],
)
def test_other_files_are_refused_in_plain_words(
    content: bytes | str | None, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.db"
    if isinstance(content, bytes):
        path.write_bytes(content * 200)
    elif content is not None:
        with sqlite3.connect(path) as connection:
            connection.execute(content)
        connection.close()
    assert run_command(["purge-superlink", str(path)]) == 2
    told = capsys.readouterr().err
    assert expected in told
    assert told.count("\n") == 1


@pytest.mark.ray
def test_a_superlink_that_runs_is_told_from_one_that_has_ended(tmp_path: Path) -> None:
    path, port = tmp_path / "state.db", free_port()
    address = ("--host", "127.0.0.1", "--port", str(port))
    command = [script("flower-superlink"), "--insecure", *address, "--database", str(path)]
    superlink = subprocess.Popen(command, env=environment_of(tmp_path / "home"))
    try:
        for _ in range(300):
            time.sleep(0.2)
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                assert superlink.poll() is None
        with pytest.raises(StorageError, match="is in use"):
            purge_superlink(path)
    finally:
        superlink.terminate()
        superlink.wait(20)
    assert purge_superlink(path).objects == 0
