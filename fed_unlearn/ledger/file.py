"""The ledger's open file: transactions, events, and small values that are kept by name."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fed_unlearn.errors import FedUnlearnError, InvalidParameterError, StorageError
from fed_unlearn.ledger.chain import Fact, LedgerEvent, Verification, append_event, read_head, reference
from fed_unlearn.ledger.key import default_key_file
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.ledger.migration import BUSY_SECONDS, copy_ledger, open_ledger
from fed_unlearn.ledger.schema import schema_problems
from fed_unlearn.ledger.seals import read_seal, seal_changes
from fed_unlearn.ledger.verification import MEANINGFUL_NOTES, verify_ledger
from fed_unlearn.text import quoted

_OWN_EVENTS = frozenset(Status) | MEANINGFUL_NOTES
_REFERENCE = re.compile("[0-9a-f]{16}")
_NAMELESS = re.compile("initial|(train:)?[0-9]+|[0-9a-f]{16}|[0-9a-f]{64}")
"""Facts that the server writes itself, so that they are no names even if a client has such a name."""
_SEPARATORS = re.compile("([+:,;/ ]+)")
_HEAD = re.compile("([0-9]+:)?[0-9a-f]{16,64}")


class LedgerFile:
    """The methods of :class:`~fed_unlearn.ledger.ledger.Ledger` that concern its file."""

    def __init__(self, path: str | Path, *, create: bool = True, key: str | Path | None = None) -> None:
        self.path = Path(path)
        self.key_file = default_key_file(self.path) if key is None else Path(key)
        self._connection, self._key = open_ledger(self.path, self.key_file, create=create)
        self._schema_checked: int | None = None
        self.identity = ""
        with suppress(FedUnlearnError):  # a damaged file can still be verified
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
            If the file cannot be written, or another process keeps it locked for 60 seconds. If somebody else changed
            its schema or its seal: nothing is written then, since that would seal what they changed.
        """
        outermost = not self._connection.in_transaction
        try:
            self._execute("BEGIN IMMEDIATE" if outermost else "SAVEPOINT inner")
            if outermost:
                head, sums = self._sealed()
            yield
            if outermost:
                self._seal(head, sums)
            self._execute("COMMIT" if outermost else "RELEASE inner")
        except BaseException:
            if self._connection.in_transaction:
                for statement in ("ROLLBACK",) if outermost else ("ROLLBACK TO inner", "RELEASE inner"):
                    self._execute(statement)
            raise

    def _sealed(self) -> tuple[tuple[int, str], dict[str, int]]:
        """The head of the events and the sums of the tables, once the schema and the seal are found to be intact."""
        try:
            schema = int(self._connection.execute("PRAGMA schema_version").fetchone()[0])
            if schema != self._schema_checked:
                for problem in schema_problems(self._connection):
                    raise sqlite3.IntegrityError(problem)
                self._schema_checked = schema
            return read_head(self._connection), read_seal(self._connection, self._key.raw)
        except sqlite3.Error as error:
            raise self._own(error) from error

    def _seal(self, head: tuple[int, str], sums: dict[str, int]) -> None:
        try:
            seal_changes(self._connection, self._key.raw, head, sums)
        except sqlite3.Error as error:
            raise self._own(error) from error

    def note(self, name: str, facts: Mapping[str, Fact], request_id: str | None = None) -> None:
        """Record an event that is not a step of a request.

        Parameters
        ----------
        name : str
            What happened. It must not be the name of a status, or of an event that another method records.
        facts : mapping of str to str, int, float, bool or None
            Details without personal data, since events can never be erased. The value of ``client`` is replaced by the
            client's reference, unless it is one already, and so are names of known clients in other texts. A fact
            ``reason`` is left out.
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

    def events(self, request_id: str | None = None, *, after: int = 0) -> list[LedgerEvent]:
        """All events in order, or those of one request; with ``after``, only those of greater numbers."""
        if request_id is None:
            return self._events("sequence > ?", after)
        return self._events("sequence > ? AND request_id = ?", after, request_id)

    def _events(self, where: str, *values: object) -> list[LedgerEvent]:
        rows = self._all(
            "SELECT sequence, time, request_id, name, attempt, facts, digest FROM events"
            f" WHERE {where} ORDER BY sequence",
            *values,
        )
        return [LedgerEvent(row[0], row[1], row[2], row[3], row[4], json.loads(row[5]), row[6]) for row in rows]

    def verify(self, head: str | None = None) -> Verification:
        """Check that events, tables and schema are as they were written.

        Whatever is edited, removed, inserted, exchanged or put back without the key is found. What the key in the hands
        of an attacker allows, and an older copy of the whole file, is found by a head that was kept elsewhere.

        Parameters
        ----------
        head : str, optional
            Digest of an event, or its first 16 digits or more, as :attr:`Verification.head` was at an earlier time. It
            must still be part of the chain.

        Raises
        ------
        InvalidParameterError
            If the head is not of 16 to 64 hexadecimal digits.
        """
        if head is not None and _HEAD.fullmatch(head.strip().lower()) is None:
            raise InvalidParameterError(f"head {quoted(head)} was given; expected 16 to 64 hexadecimal digits")
        return verify_ledger(self._connection, self._key, head)

    def outside_version(self) -> int:
        """A number that changes whenever another connection has written into the file."""
        return int(self._one("PRAGMA data_version")[0])

    def head(self) -> tuple[int, str]:
        """Number and digest of the last event; 0 and zeros before the first.

        Raises
        ------
        FedUnlearnError
            If the file is damaged.
        """
        try:
            return read_head(self._connection)
        except sqlite3.Error as error:
            raise self._own(error) from error

    def backup(self, file: str | Path) -> Path:
        """Copy the ledger into a new file while others may use it. The key is not part of the copy.

        The file of the ledger alone is no backup while it is in use: the newest transactions stand in its write-ahead
        log, beside it.

        Parameters
        ----------
        file : str or Path
            The new file. Its folder must exist.

        Returns
        -------
        Path
            Path of the new file.

        Raises
        ------
        FedUnlearnError
            If the file exists, or cannot be written. No part of a copy is left then.
        """
        return copy_ledger(self._connection, Path(file))

    def client_reference(self, client: str) -> str:
        """The reference of a client in events: 16 hexadecimal digits, different in every ledger."""
        return reference(self._key.references, client)

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
                self._execute(
                    "INSERT INTO state VALUES (?, ?) ON CONFLICT DO UPDATE SET body = excluded.body",
                    *(name, json.dumps(value)),
                )

    def _record(self, request_id: str | None, name: str, attempt: int, facts: Mapping[str, Fact]) -> None:
        kept = {key: value for key, value in facts.items() if key != "reason"}
        for key, value in kept.items():
            if key == "client":
                kept[key] = self._as_reference(str(value))
            elif isinstance(value, str) and _NAMELESS.fullmatch(value) is None:
                kept[key] = self._without_names(value)
        try:
            append_event(self._connection, self._key.raw, time.time(), request_id, name, attempt, kept)
        except sqlite3.Error as error:
            raise self._own(error) from error

    def _as_reference(self, client: str) -> str:
        is_reference = _REFERENCE.fullmatch(client) and not self._first("SELECT 1 FROM clients WHERE id = ?", client)
        return client if is_reference else self.client_reference(client)

    def _without_names(self, text: str) -> str:
        """A fact in which the names of known clients are replaced by references. Ids of requests stay."""
        if self._is_name(text):
            return self.client_reference(text)
        what, mark, rest = text.partition(":")
        if mark and self._is_name(rest):
            return f"{what}:{self.client_reference(rest)}"
        pieces = _SEPARATORS.split(text)
        return "".join(self.client_reference(piece) if self._is_name(piece) else piece for piece in pieces)

    def _is_name(self, text: str) -> bool:
        return (
            self._first("SELECT 1 FROM clients WHERE id = ?", text) is not None
            and self._first("SELECT 1 FROM requests WHERE id = ?", text) is None
        )

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
        return StorageError(f"{self.path}: the ledger cannot be used: {error}; restore the file or free its disk")
