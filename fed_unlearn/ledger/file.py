"""What every part of the ledger stands on: the open file, its transactions, its events and its small state."""

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
from fed_unlearn.ledger.chain import Fact, LedgerEvent, Verification, append_event, reference
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.ledger.schema import BUSY_SECONDS, open_ledger
from fed_unlearn.ledger.verification import MEANINGFUL_NOTES, verify_ledger

_OWN_EVENTS = frozenset(Status) | MEANINGFUL_NOTES
_REFERENCE = re.compile("[0-9a-f]{16}")


class LedgerFile:
    """An open ledger file; :class:`~fed_unlearn.ledger.ledger.Ledger` is what is used."""

    def __init__(self, path: str | Path, *, create: bool = True) -> None:
        self.path = Path(path)
        self._connection = open_ledger(self.path, create=create)
        self._secret = str(self._one("SELECT value FROM meta WHERE name = 'secret'")[0])

    def close(self) -> None:
        """Close the file; the ledger cannot be used afterwards."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is written together, or, where an exception leaves the block, not at all.

        Re-entrant: a transaction within another joins it. Where its exception is caught inside the outer one, what
        the inner one wrote is taken back, and the outer one goes on. Other processes wait meanwhile, so nothing that
        takes long belongs inside.

        Raises
        ------
        FedUnlearnError
            If the file cannot be written, or another process has kept it locked for a minute.
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
        """Record something that happened and is no step of a request.

        Parameters
        ----------
        name : str
            What happened; not the name of a status, nor of an event that another method writes.
        facts : mapping of str to str, int, float, bool or None
            Without personal data, since events can never be erased: a fact ``client`` is replaced by the client's
            reference where it is not one already, and a fact ``reason`` is left out.
        request_id : str, optional
            The request that it is of.

        Raises
        ------
        InvalidParameterError
            If the name is that of such an event.
        """
        if name in _OWN_EVENTS:
            raise InvalidParameterError(
                f"event {name!r} was to be noted; the ledger writes events of that name itself, choose another"
            )
        with self.transaction():
            self._record(request_id, name, 0, facts)

    def events(self, request_id: str | None = None) -> list[LedgerEvent]:
        """Everything that happened, in order; or what happened to one request."""
        where, values = ("", ()) if request_id is None else ("WHERE request_id = ?", (request_id,))
        rows = self._all(
            f"SELECT sequence, time, request_id, name, attempt, facts, digest FROM events {where} ORDER BY sequence",
            *values,
        )
        return [LedgerEvent(row[0], row[1], row[2], row[3], row[4], json.loads(row[5]), row[6]) for row in rows]

    def verify(self) -> Verification:
        """Whether the events are those that were written, and the tables what the events say.

        Finds any edit, removal or insertion that did not redo the whole chain after it and its head; against somebody
        who does that, compare the head with one that was kept elsewhere. Reasons and methods in use are not covered.
        """
        try:
            return verify_ledger(self._connection, self._secret)
        except sqlite3.Error as error:
            raise self._own(error) from error

    def client_reference(self, client: str) -> str:
        """What names a client in events: 16 hexadecimal digits, different in every ledger."""
        return reference(self._secret, client)

    def state(self, name: str) -> object | None:
        """A value that :meth:`set_state` keeps, read back from JSON; None where there is none."""
        row = self._first("SELECT body FROM state WHERE name = ?", name)
        return None if row is None else json.loads(row[0])

    def set_state(self, name: str, value: object | None) -> None:
        """Keep a value that can be written as JSON, in place of an earlier one of that name; None deletes it."""
        with self.transaction():
            if value is None:
                self._execute("DELETE FROM state WHERE name = ?", name)
            else:
                self._execute("INSERT OR REPLACE INTO state VALUES (?, ?)", name, json.dumps(value))

    # ------------------------------------------------------------------ for the parts

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
