"""The tables of the ledger's file, and whether a file has these and nothing else."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import cache

from fed_unlearn.ledger.lifecycle import FINAL

SCHEMA_VERSION = 3
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
    """
    CREATE TABLE models (
        sequence INTEGER PRIMARY KEY, time REAL NOT NULL, digest TEXT NOT NULL, accepted_after TEXT NOT NULL
    )
    """,
    "CREATE TABLE seals (name TEXT, label TEXT, codes BLOB NOT NULL, PRIMARY KEY (name, label)) WITHOUT ROWID",
    f"CREATE INDEX pending_requests ON requests ({PENDING_ORDER}) WHERE {PENDING}",
)
_LEFT_BY_SQLITE = "sqlite_sequence"
"""Table that SQLite keeps, without rows, in files that version 1 or 2 made."""


def make_tables(connection: sqlite3.Connection) -> None:
    """Make all tables, indexes and triggers of the present version."""
    for statement in _TABLES:
        connection.execute(statement)


@cache
def _expected() -> dict[tuple[str, str], str]:
    """The SQL text of every object by its kind and name, as SQLite writes it down."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        make_tables(connection)
        return _objects(connection)


def _objects(connection: sqlite3.Connection) -> dict[tuple[str, str], str]:
    rows = connection.execute("SELECT type, name, COALESCE(sql, '') FROM main.sqlite_master").fetchall()
    return {(str(kind), str(name)): str(text) for kind, name, text in rows}


def schema_problems(connection: sqlite3.Connection) -> Iterator[str]:
    """Say which tables, indexes, triggers and views are missing, were changed, or are no part of a ledger."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version != SCHEMA_VERSION:
        yield f"the file's version was changed: it is {version}; expected {SCHEMA_VERSION}"
    found = _objects(connection)
    for (kind, name), text in _expected().items():
        now = found.pop((kind, name), None)
        if now is None:
            yield f"the schema was changed: {kind} {name} is missing"
        elif now != text:
            yield f"the schema was changed: {kind} {name} is another one"
    for kind, name in found:
        if name != _LEFT_BY_SQLITE:
            yield f"the schema was changed: {kind} {name} is no part of a ledger"
        elif connection.execute(f"SELECT 1 FROM {_LEFT_BY_SQLITE}").fetchone() is not None:
            yield f"table {_LEFT_BY_SQLITE} was edited: it has rows"
