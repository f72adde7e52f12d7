"""The ledger's record of events: rows that are only ever added, each sealed over the one before it."""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

Fact = str | int | float | bool | None

GENESIS = "0" * 64
"""What stands in place of a previous digest before the first event."""

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True)
class LedgerEvent:
    """One line of the record: events are only ever added.

    Attributes
    ----------
    sequence : int
        From 1, without gaps.
    time : float
        Seconds since the epoch.
    request_id : str or None
        The request that it is of, if any.
    name : str
        A :class:`~fed_unlearn.ledger.lifecycle.Status` for a step of a request, else what happened.
    attempt : int
        0 for what is no step of an attempt.
    facts : mapping of str to str, int, float, bool or None
        Without personal data: no names of clients, no free text.
    digest : str
        SHA-256, in hexadecimal, over the previous event's digest and the canonical JSON of the columns above.
    """

    sequence: int
    time: float
    request_id: str | None
    name: str
    attempt: int
    facts: Mapping[str, Fact]
    digest: str = ""


@dataclass(frozen=True)
class Verification:
    """What :meth:`~fed_unlearn.ledger.ledger.Ledger.verify` found.

    Attributes
    ----------
    events : int
        How many events there are.
    problem : str or None
        The first broken row and what is wrong with it; None where the ledger is intact.
    head : str
        Digest of the last event. Whoever keeps it elsewhere can tell later that everything up to it is as it was,
        even from a person who rewrites the whole file.
    """

    events: int
    problem: str | None
    head: str = GENESIS


def canonical_json(value: object) -> str:
    """JSON without spaces and with sorted keys: equal values give equal text."""
    return _CANONICAL.encode(value)


def reference(secret: str, text: str) -> str:
    """An opaque reference to a text: the first 16 hexadecimal digits of its HMAC-SHA256 under a ledger's secret."""
    return hmac.digest(secret.encode(), text.encode(), "sha256").hex()[:16]


def event_digest(
    previous: str, sequence: int, time: float, request_id: str | None, name: str, attempt: int, facts: str
) -> str:
    """SHA-256 over the previous digest and the canonical JSON of an event's columns, in hexadecimal."""
    columns = canonical_json([sequence, time, request_id, name, attempt, facts])
    return hashlib.sha256((previous + columns).encode()).hexdigest()


def append_event(
    connection: sqlite3.Connection,
    time: float,
    request_id: str | None,
    name: str,
    attempt: int,
    facts: Mapping[str, Fact],
) -> None:
    """Add an event after the head, and move the head, in the transaction that is open.

    The head is taken from table ``meta``, not from the last row: where rows were cut off the end, the gap stays.
    """
    count, previous = read_head(connection)
    sequence, name, text = count + 1, str(name), canonical_json(dict(facts))
    digest = event_digest(previous, sequence, time, request_id, name, attempt, text)
    connection.execute(
        "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (sequence, time, request_id, name, attempt, text, previous, digest),
    )
    connection.execute("UPDATE meta SET value = ? WHERE name = 'head'", (f"{sequence} {digest}",))


def read_head(connection: sqlite3.Connection) -> tuple[int, str]:
    """How many events there are, and the digest of the last one, as ``meta`` has it.

    Raises
    ------
    sqlite3.IntegrityError
        If it does not have it: somebody edited it.
    """
    row = connection.execute("SELECT value FROM meta WHERE name = 'head'").fetchone()
    count, _, digest = str(row and row[0]).partition(" ")
    if not (count.isdecimal() and len(digest) == len(GENESIS)):
        raise sqlite3.IntegrityError("table meta does not hold the head of the events")
    return int(count), digest
