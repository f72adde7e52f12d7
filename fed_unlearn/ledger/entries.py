"""What the ledger knows of requests and of clients."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fed_unlearn.class_names import ClassNames, class_names_problem
from fed_unlearn.errors import InvalidDataError, InvalidRequestError
from fed_unlearn.ledger.chain import LedgerEvent
from fed_unlearn.ledger.endings import Ending, endings
from fed_unlearn.ledger.file import LedgerFile
from fed_unlearn.ledger.lifecycle import FINAL, Status
from fed_unlearn.ledger.schema import PENDING, PENDING_ORDER
from fed_unlearn.requests import ClassScope, ForgetRequest

_RESERVED = "reserved-ids"
_CLASS_NAMES = "class-names"

_ENTRY = """
    SELECT body, status, attempt, reason, approved, ever_committed, release_due, method, received, outcome,
           (SELECT json_group_array(client) FROM owed WHERE request_id = id) FROM requests
"""


@dataclass(frozen=True)
class LedgerEntry:
    """A request and its present state.

    Attributes
    ----------
    request : ForgetRequest
        The request, with its id.
    status : Status
        The present status.
    attempt : int
        Attempt number, counted from 1 over all methods. 0 before the first attempt.
    reason : str or None
        Reason of the last step.
    approved : bool
        Whether somebody has approved the request, so that its size no longer holds it.
    ever_committed : bool
        Whether the request was ever committed, even if it has been reopened since.
    release_due : bool
        Whether the holders must still be told that the request was withdrawn.
    method : str or None
        The method in use, if the request goes through a list of methods.
    received : float
        Time at which the request was received, in seconds since the epoch.
    outcome : dict or None
        Figures of the request at its end.
    owed : tuple of str
        Names of the holders that have not learned of the request yet, sorted.
    """

    request: ForgetRequest
    status: Status
    attempt: int
    reason: str | None
    approved: bool = False
    ever_committed: bool = False
    release_due: bool = False
    method: str | None = None
    received: float = 0.0
    outcome: dict[str, object] | None = None
    owed: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The request's id."""
        return self.request.id


class RequestRecords(LedgerFile):
    """The methods of :class:`~fed_unlearn.ledger.ledger.Ledger` that read requests."""

    def entry(self, request_id: str) -> LedgerEntry:
        """One request.

        Raises
        ------
        InvalidRequestError
            If the ledger has no such request.
        """
        for entry in self._entries("WHERE id = ?", request_id):
            return entry
        raise self._unknown(request_id)

    def entries(self) -> list[LedgerEntry]:
        """All requests, in the order in which they were received."""
        return self._entries("ORDER BY sequence")

    def pending(self) -> list[LedgerEntry]:
        """The requests that have not ended, ordered by priority, then deadline, then time of receipt."""
        return self._entries(f"WHERE {PENDING} ORDER BY {PENDING_ORDER}")

    def open_ids(self) -> list[str]:
        """Ids of the pending requests in the order of :meth:`pending`. This is cheaper than reading the entries."""
        return [str(row[0]) for row in self._all(f"SELECT id FROM requests WHERE {PENDING} ORDER BY {PENDING_ORDER}")]

    def ends(self, *, after: int = 0) -> list[LedgerEvent]:
        """The events by which requests ended, in order. A request that was opened again has several.

        Parameters
        ----------
        after : int
            Only events of greater numbers are looked at.
        """
        marks = ", ".join("?" * len(FINAL))
        return self._events(f"sequence > ? AND request_id IS NOT NULL AND name IN ({marks})", after, *sorted(FINAL))

    def committed(self) -> list[LedgerEntry]:
        """The requests that were ever committed, whatever their status now, in the order of receipt."""
        return self._entries("WHERE ever_committed ORDER BY sequence")

    def forgotten_classes(self) -> frozenset[int]:
        """All classes of the class requests that were ever committed."""
        return frozenset(
            item
            for entry in self._entries("WHERE ever_committed AND json_extract(body, '$.scope') = 'class'")
            if isinstance(entry.request.scope, ClassScope)
            for item in entry.request.scope.classes
        )

    def class_names(self) -> ClassNames:
        """The data's own labels of the classes, by index; without any where nobody has said them."""
        names = self.state(_CLASS_NAMES)
        return ClassNames(tuple(map(str, names))) if isinstance(names, list) else ClassNames()

    def name_classes(self, names: Sequence[str]) -> None:
        """Record the data's own labels of the classes, once.

        Requests hold indices. Who writes them into the ledger, or reads them, goes by these names.

        Parameters
        ----------
        names : sequence of str
            Labels in the order of the model's outputs, each of 1 to 200 characters.

        Raises
        ------
        InvalidDataError
            If they are no names, or others are recorded: requests in the ledger would mean other classes.
        """
        if (problem := class_names_problem(names)) is not None:
            raise InvalidDataError(f"class names: {problem}")
        with self.transaction():
            known, given = self.class_names(), ClassNames(tuple(names))
            if known.names and known != given:
                first = next(
                    (
                        index
                        for index, pair in enumerate(zip(known.names, given.names, strict=False))
                        if pair[0] != pair[1]
                    ),
                    min(len(known.names), len(given.names)),
                )
                raise InvalidDataError(
                    f"class names: {len(given.names)} were given, and the ledger {self.path} knows"
                    f" {len(known.names)} that differ from index {first} on; expected those of the data that it was"
                    " begun with, or a ledger of its own"
                )
            if not known.names:
                self.set_state(_CLASS_NAMES, list(names))

    def release_due(self) -> list[LedgerEntry]:
        """The withdrawn requests whose holders must still be told, in the order of receipt."""
        return self._entries("WHERE release_due ORDER BY sequence")

    def endings(self, request_id: str) -> list[Ending]:
        """All ends of a request as its events have them, the first one first; empty if it has not ended yet.

        Raises
        ------
        InvalidRequestError
            If the ledger has no such request.
        FedUnlearnError
            If the file cannot be read.
        """
        self.entry(request_id)
        try:
            return endings(self._connection, request_id)
        except sqlite3.Error as error:
            raise self._own(error) from error

    def erase_reason(self, request_id: str) -> None:
        """Erase the reason of a request's last step, for instance because it names a person. No event holds it.

        Raises
        ------
        InvalidRequestError
            If the ledger has no such request.
        """
        with self.transaction():
            self.entry(request_id)
            self._execute("UPDATE requests SET reason = NULL WHERE id = ?", request_id)

    def reserve_ids(self, ids: Iterable[str]) -> None:
        """Keep ids for requests that will come with them: no request without an id gets one of these."""
        reserved = self._reserved_ids()
        if new := sorted(set(ids) - reserved):
            self.set_state(_RESERVED, sorted(reserved.union(new)))

    def _reserved_ids(self) -> frozenset[str]:
        reserved = self.state(_RESERVED)
        return frozenset(map(str, reserved)) if isinstance(reserved, list) else frozenset()

    def _unknown(self, request_id: str) -> InvalidRequestError:
        return InvalidRequestError(f"request {request_id!r} is not in the ledger {self.path}")

    def _entries(self, rest: str, *values: str) -> list[LedgerEntry]:
        return [_entry(row) for row in self._all(f"{_ENTRY} {rest}", *values)]


def _entry(row: tuple[Any, ...]) -> LedgerEntry:
    body, status, attempt, reason, approved, ever_committed, release_due, method, received, outcome, owed = row
    return LedgerEntry(
        request=ForgetRequest.from_json(body),
        status=Status(status),
        attempt=attempt,
        reason=reason,
        approved=bool(approved),
        ever_committed=bool(ever_committed),
        release_due=bool(release_due),
        method=method,
        received=received,
        outcome=None if outcome is None else json.loads(outcome),
        owed=tuple(sorted(json.loads(owed))),
    )
