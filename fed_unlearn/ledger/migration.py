"""How a ledger's file is opened, made, and migrated from older versions."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import time
import uuid
from contextlib import closing, suppress
from pathlib import Path

from fed_unlearn.checkpoints import make_private_file, make_private_folder
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.ledger.chain import GENESIS, append_event, reference
from fed_unlearn.ledger.key import LedgerKey, check_place, confirm_key, new_key, read_key
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.ledger.schema import SCHEMA_VERSION, make_tables
from fed_unlearn.ledger.seals import seal_everything, watch_rows
from fed_unlearn.ledger.verification import verify_tables

BUSY_SECONDS = 60.0
"""Seconds that a writer waits for another one."""


def open_ledger(path: Path, key_file: Path, *, create: bool = True) -> tuple[sqlite3.Connection, LedgerKey]:
    """Open a ledger's file and migrate it to the present version.

    Parameters
    ----------
    path : Path
        The file.
    key_file : Path
        The file of its key. It is made for a ledger that is new, or is of a version without keys.
    create : bool
        Whether to make a missing file, with its folder. If false, the file must be a ledger already.

    Raises
    ------
    FedUnlearnError
        If the file is not a ledger, is a ledger of a newer version, or cannot be opened. If its key is missing, or is
        there although the ledger is of a version without keys.
    """
    try:
        if create:
            if key_file.parent != path.parent:
                check_place(key_file)
            make_private_folder(path.parent)
            check_place(key_file)
            make_private_file(path)
        mode = "rwc" if create else "rw"
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=BUSY_SECONDS
        )
    except (sqlite3.Error, OSError) as error:
        raise _not_a_ledger(path, str(error)) from error
    try:
        return connection, _prepare(connection, path, key_file, create)
    except BaseException:
        connection.close()
        raise


def _prepare(connection: sqlite3.Connection, path: Path, key_file: Path, create: bool) -> LedgerKey:
    try:
        version, tables = _contents(connection)
        if version > SCHEMA_VERSION:
            raise FedUnlearnError(
                f"{path}: a ledger of version {version}; this library reads versions up to {SCHEMA_VERSION}; update"
                " fed-unlearn"
            )
        if tables and not (version and {"requests", "events", "models"} <= tables):
            raise _not_a_ledger(path, "the database of another program")
        if not tables and not create:
            raise _not_a_ledger(path, "an empty file")
        _use_write_ahead_log(connection)
        connection.execute("PRAGMA synchronous=FULL")
        # Overwritten and deleted values, such as reasons, must not remain in the file.
        connection.execute("PRAGMA secure_delete=ON")
        # Nothing that somebody put into the file may call this program's functions.
        connection.execute("PRAGMA trusted_schema=OFF")
        if version < SCHEMA_VERSION and "seals" not in tables:
            _upgrade(connection, path, key_file)
            if version:  # what was dropped, such as the old secret, must not remain in the file
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            for file in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
                if file.exists():
                    file.chmod(0o600)
        key = confirm_key(key_file, read_key(key_file))
        watch_rows(connection, key.raw)
        return key
    except (sqlite3.Error, OSError) as error:
        raise _not_a_ledger(path, str(error)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise _not_a_ledger(path, f"a row of an older version cannot be read ({error})") from error


def _not_a_ledger(path: Path, what: str) -> FedUnlearnError:
    return FedUnlearnError(f"{path}: not a ledger: {what}; give a new path or a ledger's file")


def _contents(connection: sqlite3.Connection) -> tuple[int, set[str]]:
    """Version and tables, read in one transaction because another process may be making them."""
    connection.execute("BEGIN")
    try:
        return _version(connection), {str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master")}
    finally:
        connection.execute("ROLLBACK")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log. SQLite itself does not wait for another process that switches at the same time."""
    given_up = time.monotonic() + BUSY_SECONDS
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            if mode != "wal":
                raise OSError(f"its file system allows no write-ahead log (journal mode {mode})")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > given_up:
                raise
            time.sleep(0.01)


def copy_ledger(connection: sqlite3.Connection, file: Path) -> Path:
    """Copy an open ledger into a new file, in one step: the file is whole or is not there.

    Raises
    ------
    FedUnlearnError
        If the file exists, or cannot be written.
    """
    if not file.name:
        raise FedUnlearnError(f"{file}: names a folder; name a new file")
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        if file.exists():
            raise FileExistsError
        make_private_file(temporary)
        with closing(sqlite3.connect(temporary, isolation_level=None)) as copy:
            connection.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.link(temporary, file)  # unlike a rename, this never replaces a file
    except FileExistsError as error:
        raise FedUnlearnError(f"{file}: the file exists; name a new one") from error
    except (sqlite3.Error, OSError) as error:
        what = error.strerror if isinstance(error, OSError) else str(error)
        raise FedUnlearnError(f"{file}: the backup cannot be written: {what}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return file


def _upgrade(connection: sqlite3.Connection, path: Path, key_file: Path) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)  # another process may have upgraded the file meanwhile
        if version < SCHEMA_VERSION:
            old = (
                connection.execute("SELECT value FROM meta WHERE name = 'secret'").fetchone() if version == 2 else None
            )
            key = _key_of_old(path, key_file, version, None if old is None else str(old[0]))
            if version == 0:
                _begin(connection)
            elif version == 1:
                _migrate_version_1(connection, key)
            else:
                _migrate_version_2(connection, key)
            seal_everything(connection, key.raw)
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _key_of_old(path: Path, key_file: Path, version: int, references: str | None) -> LedgerKey:
    """The key under which a file that has none yet is sealed.

    A key that seals a ledger already tells that a file of an older version was put in the ledger's place.
    """
    if not key_file.exists():
        return new_key(key_file, references)
    key = read_key(key_file)
    if version and not key.is_pending:
        raise FedUnlearnError(
            f"{path}: a ledger of version {version}, but {key_file} is the key of a newer one: an old file was put in"
            " its place; restore the ledger, or move the key away to accept the old file"
        )
    return key


def _begin(connection: sqlite3.Connection) -> None:
    """Make all tables of a new ledger."""
    make_tables(connection)
    connection.executemany(
        "INSERT INTO meta VALUES (?, ?)", [("head", f"0 {GENESIS}"), ("identity", str(uuid.uuid4()))]
    )


def _set_aside(connection: sqlite3.Connection, version: int) -> None:
    """Rename the tables of an older version, and drop its indexes and triggers, whose names are needed."""
    rows = connection.execute("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'").fetchall()
    for kind, name in rows:
        if kind in ("index", "trigger"):
            connection.execute(f'DROP {kind} "{name}"')
    for kind, name in rows:
        if kind == "table":
            connection.execute(f'ALTER TABLE "{name}" RENAME TO "{name}_{version}"')


def _migrate_version_2(connection: sqlite3.Connection, key: LedgerKey) -> None:
    """Rewrite version 2, whose events were sealed without a key, and whose other tables were not sealed.

    The events and their digests stay. What was wrong with the file before stays known.
    """
    problem = verify_tables(connection, key.references)
    _set_aside(connection, 2)
    make_tables(connection)
    for table, columns in _COLUMNS_2.items():
        connection.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {table}_2")
        connection.execute(f"DROP TABLE {table}_2")
    (count,) = connection.execute("SELECT COUNT(*) FROM events").fetchone()
    connection.execute("DELETE FROM meta WHERE name = 'secret'")
    notes = [("identity", str(uuid.uuid4())), ("unkeyed", str(count))]
    connection.executemany("INSERT INTO meta VALUES (?, ?)", [*notes, *([("found", problem)] if problem else [])])


_COLUMNS_2 = {
    "requests": (
        "sequence, id, body, received, status, attempt, reason, priority, deadline, approved, ever_committed,"
        " release_due, method, outcome"
    ),
    "events": "sequence, time, request_id, name, attempt, facts, previous, digest",
    "clients": "id, tombstones, departed",
    "owed": "request_id, client",
    "state": "name, body",
    "meta": "name, value",
    "models": "sequence, time, digest, accepted_after",
}


def _migrate_version_1(connection: sqlite3.Connection, key: LedgerKey) -> None:
    """Rewrite version 1, which had no chain and had names of clients and reasons in its events."""
    _set_aside(connection, 1)
    _begin(connection)
    connection.execute(
        "INSERT INTO models (sequence, time, digest, accepted_after)"
        " SELECT sequence, time, digest, accepted_after FROM models_1"
    )
    connection.execute(
        """
        INSERT INTO requests (sequence, id, body, received, status, attempt, reason, priority, ever_committed)
        SELECT sequence, id, body, COALESCE((SELECT MIN(time) FROM events_1 WHERE request_id = id), ?),
               status, attempt, reason, 0, status = ? FROM requests_1
        """,
        (time.time(), Status.COMMITTED),
    )
    bodies = dict(connection.execute("SELECT id, body FROM requests").fetchall())
    rows = connection.execute(
        "SELECT time, request_id, name, attempt, facts FROM events_1 ORDER BY sequence"
    ).fetchall()
    for moment, request_id, name, attempt, text in rows:
        facts = json.loads(text)
        facts.pop("reason", None)
        if "client" in facts:
            client = str(facts["client"])
            connection.execute("INSERT OR IGNORE INTO clients (id) VALUES (?)", (client,))
            if name == "tombstones-confirmed":
                connection.execute("UPDATE clients SET tombstones = ? WHERE id = ?", (facts["digest"], client))
            facts["client"] = reference(key.references, client)
        if name == Status.RECEIVED and request_id in bodies:
            facts["request"] = reference(key.references, bodies[request_id])
        append_event(connection, key.raw, moment, request_id, name, attempt, facts)
    for table in ("requests", "events", "models"):
        connection.execute(f"DROP TABLE {table}_1")
