"""The ledger's open file: transactions, events, and small values that are kept by name."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fed_unlearn.errors import FedUnlearnError, InvalidParameterError
from fed_unlearn.ledger.chain import (
    MEANINGFUL_NOTES,
    Fact,
    LedgerEvent,
    Verification,
    append_event,
    reference,
    verify_ledger,
)
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.ledger.schema import BUSY_SECONDS, open_ledger

_OWN_EVENTS = frozenset(Status) | MEANINGFUL_NOTES
_REFERENCE = re.compile("[0-9a-f]{16}")


class LedgerFile:
    """The methods of :class:`~fed_unlearn.ledger.ledger.Ledger` that concern its file."""

    def __init__(self, path: str | Path, *, create: bool = True) -> None:
        self.path = Path(path)
        self._connection = open_ledger(self.path, create=create)
        self._secret = str(self._one("SELECT value FROM meta WHERE name = 'secret'")[0])
        self.identity = str(self._one("SELECT value FROM meta WHERE name = 'identity'")[0])

    def close(self) -> None:
        """Close the file. The ledger cannot be used afterwards."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write everything inside the block together, or nothing if an exception leaves the block.

        Transactions may be nested. If an exception leaves an inner block and is caught in the outer one, only what the
        inner block wrote is undone. Other processes wait for the end of the transaction, so it should be short.

        Raises
        ------
        FedUnlearnError
            If the file cannot be written, or another process keeps it locked for 60 seconds.
        """
        outermost = not self._connection.in_transaction
        try:
            self._execute("BEGIN IMMEDIATE" if outermost else "SAVEPOINT inner")
            yield
            self._execute("COMMIT" if outermost else "RELEASE inner")
        except BaseException:
            if self._connection.in_transaction:
                for statement in ("ROLLBACK",) if outermost else ("ROLLBACK TO inner", "RELEASE inner"):
                    self._execute(statement)
            raise

    def note(self, name: str, facts: Mapping[str, Fact], request_id: str | None = None) -> None:
        """Record an event that is not a step of a request.

        Parameters
        ----------
        name : str
            What happened. It must not be the name of a status, or of an event that another method records.
        facts : mapping of str to str, int, float, bool or None
            Details without personal data, since events can never be erased. The value of ``client`` is replaced by the
            client's reference, unless it is one already. A fact ``reason`` is left out.
        request_id : str, optional
            The request that the event concerns.

        Raises
        ------
        InvalidParameterError
            If the ledger records events of that name itself.
        """
        if name in _OWN_EVENTS:
            raise InvalidParameterError(
                f"event name {name!r} was given; the ledger writes events of that name itself, choose another"
            )
        with self.transaction():
            self._record(request_id, name, 0, facts)

    def events(self, request_id: str | None = None) -> list[LedgerEvent]:
        """All events in order, or those of one request."""
        where, values = ("", ()) if request_id is None else ("WHERE request_id = ?", (request_id,))
        rows = self._all(
            f"SELECT sequence, time, request_id, name, attempt, facts, digest FROM events {where} ORDER BY sequence",
            *values,
        )
        return [LedgerEvent(row[0], row[1], row[2], row[3], row[4], json.loads(row[5]), row[6]) for row in rows]

    def verify(self) -> Verification:
        """Check that the events are unchanged, and that the tables agree with them.

        Every edit, removal or insertion is found unless somebody rewrote the whole chain after it, the head included.
        To find that as well, compare the head with a copy kept elsewhere. Reasons and methods in use are not covered.
        """
        try:
            return verify_ledger(self._connection, self._secret)
        except sqlite3.Error as error:
            raise self._own(error) from error

    def client_reference(self, client: str) -> str:
        """The reference of a client in events: 16 hexadecimal digits, different in every ledger."""
        return reference(self._secret, client)

    def state(self, name: str) -> object | None:
        """Read the value that :meth:`set_state` stored under a name. None if there is none."""
        row = self._first("SELECT body FROM state WHERE name = ?", name)
        return None if row is None else json.loads(row[0])

    def set_state(self, name: str, value: object | None) -> None:
        """Store a value that can be written as JSON under a name. None deletes the stored value."""
        with self.transaction():
            if value is None:
                self._execute("DELETE FROM state WHERE name = ?", name)
            else:
                self._execute("INSERT OR REPLACE INTO state VALUES (?, ?)", name, json.dumps(value))

    def _record(self, request_id: str | None, name: str, attempt: int, facts: Mapping[str, Fact]) -> None:
        kept = {key: value for key, value in facts.items() if key != "reason"}
        if "client" in kept:
            kept["client"] = self._as_reference(str(kept["client"]))
        try:
            append_event(self._connection, time.time(), request_id, name, attempt, kept)
        except sqlite3.Error as error:
            raise self._own(error) from error

    def _as_reference(self, client: str) -> str:
        is_reference = _REFERENCE.fullmatch(client) and not self._first("SELECT 1 FROM clients WHERE id = ?", client)
        return client if is_reference else self.client_reference(client)

    def _execute(self, sql: str, *values: object) -> None:
        try:
            self._connection.execute(sql, values)
        except sqlite3.Error as error:
            raise self._own(error) from error

    def _first(self, sql: str, *values: object) -> tuple[Any, ...] | None:
        try:
            row: tuple[Any, ...] | None = self._connection.execute(sql, values).fetchone()
        except sqlite3.Error as error:
            raise self._own(error) from error
        return row

    def _one(self, sql: str, *values: object) -> tuple[Any, ...]:
        row = self._first(sql, *values)
        if row is None:
            raise FedUnlearnError(f"{self.path}: the ledger is damaged: a row is missing; restore the file")
        return row

    def _all(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._own(error) from error

    def _own(self, error: sqlite3.Error) -> FedUnlearnError:
        if "locked" in str(error):
            return FedUnlearnError(
                f"{self.path}: another process has kept the ledger locked for {BUSY_SECONDS:g} seconds; end it or try"
                " again"
            )
        return FedUnlearnError(f"{self.path}: the ledger cannot be used: {error}; restore the file or free its disk")
