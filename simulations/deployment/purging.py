"""Removal of arrays from a SuperLink's database, offline: what a request's purge cannot reach while the server runs.

Flower deletes the objects of a message once it was delivered, but their bytes stay in free pages and in the write-ahead
log, and the objects of messages that nobody fetched stay whole.
"""

from __future__ import annotations

import mmap
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fed_unlearn.errors import StorageError
from fed_unlearn.text import quoted

_REQUIRED = {"alembic_version", "run", "task", "objects", "run_objects", "object_children"}
_OF_A_RUN = ("message", "message_res", "message_ins", "task_message", "object_push_sessions", "run_objects")
_PENDING = ("object_push_session_pending", "object_push_session_roots")
_SAMPLES, _SAMPLE_BYTES = 256, 32
_WAIT_SECONDS = 1.0


@dataclass(frozen=True)
class Purged:
    """What a purge found and removed.

    Attributes
    ----------
    runs : int
        Runs whose objects were removed.
    kept_runs : tuple of str
        Ids of runs that were not finished, and whose objects stay.
    objects : int
        Rows of objects that were removed: records and arrays.
    bytes_before, bytes_after : int
        Size of the database with its write-ahead log.
    sought : int
        Samples of the removed bytes that were looked for in the files afterwards, and not found.
    """

    runs: int
    kept_runs: tuple[str, ...]
    objects: int
    bytes_before: int
    bytes_after: int
    sought: int


def purge_superlink(path: Path, *, unfinished: bool = False) -> Purged:
    """Remove the messages and arrays of finished runs from a SuperLink's database, and what it deleted itself.

    Runs, nodes, tasks and their logs stay, so that the SuperLink goes on with the same database.

    Parameters
    ----------
    path : Path
        The file that was given to ``flower-superlink --database``.
    unfinished : bool, default False
        Remove those of runs that are not finished, too. Such a run cannot go on.

    Returns
    -------
    Purged

    Raises
    ------
    StorageError
        If there is no such file, it is no SuperLink's database, a process has it open, or bytes of a removed object are
        still there afterwards.
    """
    if not path.is_file():
        raise StorageError(f"{quoted(str(path))} is no file; expected what flower-superlink --database was given")
    before = sum(file.stat().st_size for file in _files(path))
    try:
        with _opened(path) as (database, journal_mode):
            finished, open_runs = _runs(database)
            runs = [*finished, *open_runs] if unfinished else finished
            kept = () if unfinished else tuple(str(run % 2**64) for run in open_runs)
            present = _samples(database)
            objects = _delete(database, runs)
            remaining = _samples(database)
            database.execute("VACUUM")
            database.execute(f"PRAGMA journal_mode={journal_mode}")
    except sqlite3.Error as error:
        raise StorageError(
            f"{quoted(str(path))} cannot be purged ({error}); see that it is whole and that its disk has room"
        ) from error
    sought = sorted(set(present) - set(remaining))
    _check_gone(path, sought)
    return Purged(len(runs), kept, objects, before, sum(file.stat().st_size for file in _files(path)), len(sought))


def _files(path: Path) -> list[Path]:
    return [file for suffix in ("", "-wal", "-shm", "-journal") if (file := Path(f"{path}{suffix}")).is_file()]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[sqlite3.Connection, str]]:
    """The database for this process alone, with its write-ahead log written back; and the journal mode that it had."""
    with closing(
        sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=_WAIT_SECONDS, isolation_level=None)
    ) as database:
        try:
            tables = {str(row[0]) for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not tables >= _REQUIRED:
                raise StorageError(
                    f"{quoted(str(path))} is no SuperLink's database; it has no table {min(_REQUIRED - tables)}"
                )
            journal_mode = str(database.execute("PRAGMA journal_mode").fetchone()[0])
            database.execute("PRAGMA locking_mode=EXCLUSIVE")
            database.execute("PRAGMA journal_mode=DELETE")  # it fails where another process has the file open
            database.execute("BEGIN EXCLUSIVE")
            database.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            raise StorageError(
                f"{quoted(str(path))} is in use; stop the SuperLink that has it open, and give the command again"
            ) from error
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_NOTADB:
                raise
            raise StorageError(f"{quoted(str(path))} is no SuperLink's database; it is no SQLite file") from error
        database.execute("PRAGMA secure_delete=ON")
        yield database, journal_mode


def _runs(database: sqlite3.Connection) -> tuple[list[int], list[int]]:
    """Ids of the runs that are finished, and of the others."""
    rows = database.execute(
        "SELECT run.run_id, task.finished_at FROM run LEFT JOIN task ON task.task_id = run.primary_task_id"
    ).fetchall()
    return [int(run) for run, end in rows if end], [int(run) for run, end in rows if not end]


def _delete(database: sqlite3.Connection, runs: Sequence[int]) -> int:
    """Delete the messages of runs and the objects that no other run has, and return the number of objects."""
    tables = {str(row[0]) for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    database.execute("BEGIN EXCLUSIVE")
    database.execute("CREATE TEMP TABLE purged_run AS SELECT value AS run_id FROM json_each(?)", (_json(runs),))
    for table in _PENDING:
        if table in tables:
            database.execute(
                f"DELETE FROM {table} WHERE session_id IN (SELECT session_id FROM object_push_sessions"
                " WHERE run_id IN (SELECT run_id FROM purged_run))"
            )
    for table in _OF_A_RUN:
        if table in tables:
            database.execute(f"DELETE FROM {table} WHERE run_id IN (SELECT run_id FROM purged_run)")
    unowned = "SELECT object_id FROM objects EXCEPT SELECT object_id FROM run_objects"
    database.execute(f"DELETE FROM object_children WHERE parent_id IN ({unowned}) OR child_id IN ({unowned})")
    count = database.execute(f"DELETE FROM objects WHERE object_id IN ({unowned})").rowcount
    if {"series_context", "series_runs"} <= tables:
        database.execute(
            "DELETE FROM series_context WHERE series_id NOT IN (SELECT series_id FROM series_runs"
            " WHERE run_id NOT IN (SELECT run_id FROM purged_run))"
        )
    database.execute("COMMIT")
    return count


def _json(numbers: Sequence[int]) -> str:
    return f"[{','.join(map(str, numbers))}]"


def _samples(database: sqlite3.Connection) -> list[bytes]:
    """Some bytes of each of the largest objects."""
    rows = database.execute(
        "SELECT content FROM objects WHERE length(content) >= ? ORDER BY length(content) DESC LIMIT ?",
        (4 * _SAMPLE_BYTES, _SAMPLES),
    )
    return [sample for row in rows if (sample := _sample(bytes(row[0]))) is not None]


def _sample(content: bytes) -> bytes | None:
    """Bytes from the middle of an object that hardly occur by chance; None if all of its middle is alike."""
    middle = len(content) // 2
    sample = content[middle : middle + _SAMPLE_BYTES]
    return sample if len(set(sample)) > _SAMPLE_BYTES // 4 else None


def _check_gone(path: Path, samples: Sequence[bytes]) -> None:
    """Look for samples of removed bytes in the database's files.

    Raises
    ------
    StorageError
        If one is there.
    """
    for file in _files(path):
        if file.stat().st_size == 0:
            continue
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found = sum(content.find(sample) >= 0 for sample in samples)
        if found:
            raise StorageError(
                f"{quoted(str(file))} still holds bytes of {found} removed objects; remove the file, and start the "
                "SuperLink with a new database"
            )
