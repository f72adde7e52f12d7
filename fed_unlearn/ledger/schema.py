"""The tables of the ledger's file, how it is opened, and how an older version is migrated."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
import uuid
from pathlib import Path

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.ledger.chain import GENESIS, append_event, reference
from fed_unlearn.ledger.lifecycle import FINAL, Status

SCHEMA_VERSION = 3
BUSY_SECONDS = 60.0
"""Seconds that a writer waits for another one."""

_NOT_FINAL = ", ".join(f"'{status}'" for status in sorted(FINAL))
PENDING = f"status NOT IN ({_NOT_FINAL})"
"""SQL condition of a pending request. The index on pending requests has the same text."""

PENDING_ORDER = "priority DESC, deadline IS NULL, deadline, sequence"
"""SQL order in which pending requests are served."""

_TABLES = (
    """
    CREATE TABLE requests (
        sequence INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, body TEXT NOT NULL, received REAL NOT NULL,
        status TEXT NOT NULL, attempt INTEGER NOT NULL, reason TEXT,
        priority INTEGER NOT NULL, deadline REAL, approved INTEGER NOT NULL DEFAULT 0,
        ever_committed INTEGER NOT NULL DEFAULT 0, release_due INTEGER NOT NULL DEFAULT 0, method TEXT, outcome TEXT
    )
    """,
    """
    CREATE TABLE events (
        sequence INTEGER PRIMARY KEY, time REAL NOT NULL, request_id TEXT, name TEXT NOT NULL,
        attempt INTEGER NOT NULL, facts TEXT NOT NULL, previous TEXT NOT NULL, digest TEXT NOT NULL
    )
    """,
    "CREATE INDEX events_of_requests ON events (request_id) WHERE request_id IS NOT NULL",
    """
    CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'events are never changed'); END
    """,
    """
    CREATE TRIGGER events_are_not_removed BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'events are never removed'); END
    """,
    """
    CREATE TABLE clients (
        id TEXT PRIMARY KEY, tombstones TEXT, departed INTEGER NOT NULL DEFAULT 0, key TEXT, claims TEXT
    ) WITHOUT ROWID
    """,
    "CREATE TABLE owed (request_id TEXT, client TEXT, PRIMARY KEY (request_id, client)) WITHOUT ROWID",
    "CREATE TABLE state (name TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
)
_MODELS = """
    CREATE TABLE models (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, digest TEXT NOT NULL,
        accepted_after TEXT NOT NULL
    )
"""


def open_ledger(path: Path, *, create: bool = True) -> sqlite3.Connection:
    """Open a ledger's file and migrate it to the present version.

    Parameters
    ----------
    path : Path
        The file.
    create : bool
        Whether to make a missing file, with its folder. If false, the file must be a ledger already.

    Raises
    ------
    FedUnlearnError
        If the file is not a ledger, is a ledger of a newer version, or cannot be opened.
    """
    try:
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
        mode = "rwc" if create else "rw"
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=BUSY_SECONDS
        )
    except (sqlite3.Error, OSError) as error:
        raise _not_a_ledger(path, str(error)) from error
    try:
        _prepare(connection, path, create)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, create: bool) -> None:
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
        if version < SCHEMA_VERSION:
            _upgrade(connection)
    except (sqlite3.Error, OSError) as error:
        raise _not_a_ledger(path, str(error)) from error
    except (ValueError, KeyError) as error:
        raise _not_a_ledger(path, f"a row of version 1 cannot be read ({error})") from error


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


def _upgrade(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)  # another process may have upgraded the file meanwhile
        if version == 0:
            connection.execute(_MODELS)
            _make_tables(connection)
        elif version == 1:
            _migrate_version_1(connection)
        elif version == 2:
            _migrate_version_2(connection)
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _make_tables(connection: sqlite3.Connection) -> str:
    """Make all tables but that of the models; return the new ledger's secret."""
    for statement in _TABLES:
        connection.execute(statement)
    connection.execute(f"CREATE INDEX pending_requests ON requests ({PENDING_ORDER}) WHERE {PENDING}")
    secret = secrets.token_hex(32)
    connection.executemany(
        "INSERT INTO meta VALUES (?, ?)", [("secret", secret), ("head", f"0 {GENESIS}"), _new_identity()]
    )
    return secret


def _new_identity() -> tuple[str, str]:
    return "identity", str(uuid.uuid4())


def _migrate_version_2(connection: sqlite3.Connection) -> None:
    """Give version 2 an identity, and columns for what clients identify with."""
    connection.execute("ALTER TABLE clients ADD COLUMN key TEXT")
    connection.execute("ALTER TABLE clients ADD COLUMN claims TEXT")
    connection.execute("INSERT INTO meta VALUES (?, ?)", _new_identity())


def _migrate_version_1(connection: sqlite3.Connection) -> None:
    """Rewrite version 1, which had no chain and had names of clients and reasons in its events."""
    connection.execute("ALTER TABLE requests RENAME TO requests_1")
    connection.execute("ALTER TABLE events RENAME TO events_1")
    secret = _make_tables(connection)
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
            facts["client"] = reference(secret, client)
        if name == Status.RECEIVED and request_id in bodies:
            facts["request"] = reference(secret, bodies[request_id])
        append_event(connection, moment, request_id, name, attempt, facts)
    connection.execute("DROP TABLE requests_1")
    connection.execute("DROP TABLE events_1")
