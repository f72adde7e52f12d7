"""The server's durable record of what was asked, what was done, and which model serves."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fed_unlearn.errors import FedUnlearnError, InvalidRequestError
from fed_unlearn.lifecycle import FINAL, Status, check_transition
from fed_unlearn.requests import ClassScope, ForgetRequest

Fact = str | int | float | bool | None

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE requests (
    id TEXT PRIMARY KEY, sequence INTEGER UNIQUE NOT NULL, body TEXT NOT NULL,
    status TEXT NOT NULL, attempt INTEGER NOT NULL, reason TEXT
);
CREATE TABLE events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, request_id TEXT,
    name TEXT NOT NULL, attempt INTEGER NOT NULL, facts TEXT NOT NULL
);
CREATE TABLE models (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, digest TEXT NOT NULL, accepted_after TEXT NOT NULL
);
"""


@dataclass(frozen=True)
class LedgerEntry:
    """A request as the ledger knows it."""

    request: ForgetRequest
    status: Status
    attempt: int
    reason: str | None

    @property
    def id(self) -> str:
        """The request's id, which every entry has."""
        return self.request.id or ""


@dataclass(frozen=True)
class LedgerEvent:
    """One line of the record: events are only ever added."""

    sequence: int
    time: float
    request_id: str | None
    name: str
    attempt: int
    facts: Mapping[str, Fact]


class Ledger:
    """Requests, every step of their lives, and the accepted models, in one SQLite file.

    Parameters
    ----------
    path : str or Path
        The file; made with its folder if it is not there.

    Raises
    ------
    FedUnlearnError
        If the file is not a ledger of this version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self.path, isolation_level=None)
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
            tables = self._connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
        except (sqlite3.Error, OSError) as error:
            raise FedUnlearnError(f"{path}: not a ledger: {error}; give a new path or a ledger's file") from error
        if version not in (0, _SCHEMA_VERSION):
            raise FedUnlearnError(
                f"{path}: a ledger of version {version}; this library reads version {_SCHEMA_VERSION}"
            )
        if version == 0 and tables:
            raise FedUnlearnError(
                f"{path}: not a ledger but the database of another program; give a new path or a ledger's file"
            )
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        if version == 0:
            self._connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={_SCHEMA_VERSION}; COMMIT;")

    def close(self) -> None:
        """Close the file; the ledger cannot be used afterwards."""
        self._connection.close()

    def receive(self, request: ForgetRequest) -> str:
        """Write a request down; from here on it is never lost.

        Returns
        -------
        str
            Its id: the given one, or ``r1``, ``r2``, … in order. A request that is there already is left as it is.

        Raises
        ------
        InvalidRequestError
            If the id is taken by a request that asks for something else.
        """
        with self._transaction():
            rows = self._connection.execute("SELECT COALESCE(MAX(sequence), 0) FROM requests").fetchone()
            sequence = int(rows[0]) + 1
            request_id = request.id or self._unused_id(sequence)
            body = ForgetRequest(request.scope, request.method, request.parameters, request_id).to_json()
            known = self._connection.execute("SELECT body FROM requests WHERE id = ?", (request_id,)).fetchone()
            if known is not None:
                if known[0] != body:
                    raise InvalidRequestError(
                        f"request {request_id!r} is in the ledger already and asks for something else; use a new id"
                    )
                return request_id
            self._connection.execute(
                "INSERT INTO requests VALUES (?, ?, ?, ?, 0, NULL)", (request_id, sequence, body, Status.RECEIVED)
            )
            self._record(request_id, Status.RECEIVED, 0, {})
        return request_id

    def advance(
        self,
        request_id: str,
        status: Status,
        *,
        attempt: int,
        reason: str | None = None,
        facts: Mapping[str, Fact] | None = None,
    ) -> None:
        """Take a request one step further.

        Raises
        ------
        TransitionError
            If the life of a request does not have that step.
        """
        with self._transaction():
            self._advance(request_id, status, attempt, reason, facts or {})

    def entry(self, request_id: str) -> LedgerEntry:
        """One request.

        Raises
        ------
        InvalidRequestError
            If the ledger has no such request.
        """
        for entry in self._entries("WHERE id = ?", request_id):
            return entry
        raise InvalidRequestError(f"request {request_id!r} is not in the ledger {self.path}")

    def entries(self) -> list[LedgerEntry]:
        """Every request, in the order in which they came."""
        return self._entries("")

    def pending(self) -> list[LedgerEntry]:
        """The requests that are not yet at an end, in the order in which they came."""
        return [entry for entry in self.entries() if entry.status not in FINAL]

    def committed(self) -> list[LedgerEntry]:
        """The committed requests, in the order in which they came."""
        return [entry for entry in self.entries() if entry.status is Status.COMMITTED]

    def forgotten_classes(self) -> frozenset[int]:
        """Every class that a committed request has made the model forget."""
        return frozenset(
            item
            for entry in self.committed()
            if isinstance(entry.request.scope, ClassScope)
            for item in entry.request.scope.classes
        )

    def commit(self, request_id: str, digest: str, *, attempt: int) -> None:
        """Commit a request and record the model that it led to, in one transaction.

        Parameters
        ----------
        request_id : str
        digest : str
            The model's name in the checkpoint store.
        attempt : int

        Raises
        ------
        TransitionError
            If the request is not being committed.
        """
        with self._transaction():
            self._advance(request_id, Status.COMMITTED, attempt, None, {})
            self._accept_model(digest, request_id)

    def accept_model(self, digest: str, accepted_after: str) -> None:
        """Record the model that serves from now on.

        Parameters
        ----------
        digest : str
            Its name in the checkpoint store.
        accepted_after : str
            What led to it: a request's id, or for instance ``"train:1"``.
        """
        with self._transaction():
            self._accept_model(digest, accepted_after)

    def served_model(self) -> str | None:
        """Digest of the model that serves; None before the first."""
        row = self._connection.execute("SELECT digest FROM models ORDER BY sequence DESC LIMIT 1").fetchone()
        return None if row is None else str(row[0])

    def note(self, name: str, facts: Mapping[str, Fact], request_id: str | None = None) -> None:
        """Record something that happened and is no step of a request."""
        with self._transaction():
            self._record(request_id, name, 0, facts)

    def events(self) -> list[LedgerEvent]:
        """Everything that happened, in order."""
        rows = self._connection.execute(
            "SELECT sequence, time, request_id, name, attempt, facts FROM events ORDER BY sequence"
        )
        return [LedgerEvent(row[0], row[1], row[2], row[3], row[4], json.loads(row[5])) for row in rows]

    def confirm_tombstones(self, client: str, digest: str) -> None:
        """Record the tombstone digest that a client has confirmed; it must show it from now on."""
        self.note("tombstones-confirmed", {"client": client, "digest": digest})

    def confirmed_tombstones(self) -> dict[str, str]:
        """The tombstone digest that each client last confirmed."""
        rows = self._connection.execute(
            "SELECT facts FROM events WHERE name = 'tombstones-confirmed' ORDER BY sequence"
        )
        return {facts["client"]: facts["digest"] for facts in (json.loads(row[0]) for row in rows)}

    def committing_model(self, request_id: str) -> str | None:
        """Digest of the model that a request was being committed with; None where it was not."""
        row = self._connection.execute(
            "SELECT facts FROM events WHERE request_id = ? AND name = ? ORDER BY sequence DESC LIMIT 1",
            (request_id, Status.COMMITTING),
        ).fetchone()
        return None if row is None else str(json.loads(row[0])["digest"])

    def _advance(
        self, request_id: str, status: Status, attempt: int, reason: str | None, facts: Mapping[str, Fact]
    ) -> None:
        check_transition(request_id, self.entry(request_id).status, status)
        self._connection.execute(
            "UPDATE requests SET status = ?, attempt = ?, reason = ? WHERE id = ?",
            (status, attempt, reason, request_id),
        )
        self._record(request_id, status, attempt, {**facts, **({"reason": reason} if reason else {})})

    def _accept_model(self, digest: str, accepted_after: str) -> None:
        self._connection.execute(
            "INSERT INTO models (time, digest, accepted_after) VALUES (?, ?, ?)",
            (time.time(), digest, accepted_after),
        )
        self._record(None, "model-accepted", 0, {"digest": digest, "after": accepted_after})

    def _entries(self, where: str, *values: str) -> list[LedgerEntry]:
        rows = self._connection.execute(
            f"SELECT body, status, attempt, reason FROM requests {where} ORDER BY sequence", values
        )
        return [LedgerEntry(ForgetRequest.from_json(row[0]), Status(row[1]), row[2], row[3]) for row in rows]

    def _unused_id(self, sequence: int) -> str:
        taken = {entry.id for entry in self.entries()}
        while f"r{sequence}" in taken:
            sequence += 1
        return f"r{sequence}"

    def _record(self, request_id: str | None, name: str, attempt: int, facts: Mapping[str, Fact]) -> None:
        self._connection.execute(
            "INSERT INTO events (time, request_id, name, attempt, facts) VALUES (?, ?, ?, ?, ?)",
            (time.time(), request_id, name, attempt, json.dumps(dict(facts), sort_keys=True)),
        )

    def _transaction(self) -> _Transaction:
        return _Transaction(self._connection)


class _Transaction:
    """BEGIN IMMEDIATE … COMMIT, or ROLLBACK where an exception leaves the block."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._connection.execute("COMMIT" if kind is None else "ROLLBACK")
