"""The chain of events: each is sealed, under the ledger's key, together with the one before it."""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

Fact = str | int | float | bool | None

GENESIS = "0" * 64
"""The previous digest of the first event."""

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True)
class LedgerEvent:
    """One event of the chain.

    Attributes
    ----------
    sequence : int
        Number of the event, counted from 1 without gaps.
    time : float
        Seconds since the epoch.
    request_id : str or None
        The request that the event concerns, if any.
    name : str
        A :class:`~fed_unlearn.ledger.lifecycle.Status` if the event is a step of a request; else what happened.
    attempt : int
        Attempt number. 0 if the event is not a step of an attempt.
    facts : mapping of str to str, int, float, bool or None
        Details without personal data: no names of clients and no free text.
    digest : str
        HMAC-SHA256 under the ledger's key, in hexadecimal, over the previous event's digest and the canonical JSON of
        the columns above. SHA-256 without a key if version 2 of the library wrote the event.
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
    """The result of :meth:`~fed_unlearn.ledger.ledger.Ledger.verify`.

    Attributes
    ----------
    events : int
        Number of events.
    problem : str or None
        The first of the problems. None if the ledger is intact.
    head : str
        Digest of the last event. A copy that is kept elsewhere proves later that no event up to it was changed, not
        even by somebody who has the key.
    problems : tuple of str
        What differs from what was written, one sentence each.
    """

    events: int
    problem: str | None
    head: str = GENESIS
    problems: tuple[str, ...] = ()


def canonical_json(value: object) -> str:
    """Encode a value as JSON without spaces and with sorted keys, so that equal values give equal text."""
    return _CANONICAL.encode(value)


def reference(secret: str, text: str) -> str:
    """Opaque reference to a text: the first 16 hexadecimal digits of its HMAC-SHA256 under a ledger's secret."""
    return hmac.digest(secret.encode(), text.encode(), "sha256").hex()[:16]


def event_digest(
    key: bytes | None,
    previous: str,
    sequence: int,
    time: float,
    request_id: str | None,
    name: str,
    attempt: int,
    facts: str,
) -> str:
    """Digest of an event, in hexadecimal: HMAC-SHA256 under the key, or SHA-256 if the key is None."""
    columns = canonical_json([sequence, time, request_id, name, attempt, facts])
    message = (previous + columns).encode()
    return hashlib.sha256(message).hexdigest() if key is None else hmac.digest(key, message, "sha256").hex()


def append_event(
    connection: sqlite3.Connection,
    key: bytes,
    time: float,
    request_id: str | None,
    name: str,
    attempt: int,
    facts: Mapping[str, Fact],
) -> None:
    """Add an event after the head and move the head, in the open transaction.

    The head is read from table ``meta``, not from the last row, so that a gap stays if rows were cut off the end.
    """
    count, previous = read_head(connection)
    sequence, name, text = count + 1, str(name), canonical_json(dict(facts))
    digest = event_digest(key, previous, sequence, time, request_id, name, attempt, text)
    connection.execute(
        "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (sequence, time, request_id, name, attempt, text, previous, digest),
    )
    connection.execute("UPDATE meta SET value = ? WHERE name = 'head'", (f"{sequence} {digest}",))


def read_head(connection: sqlite3.Connection) -> tuple[int, str]:
    """Number of events and digest of the last one, read from table ``meta``.

    Raises
    ------
    sqlite3.IntegrityError
        If the table does not hold them, because somebody edited it.
    """
    row = connection.execute("SELECT value FROM meta WHERE name = 'head'").fetchone()
    count, _, digest = str(row and row[0]).partition(" ")
    if not (count.isdecimal() and len(digest) == len(GENESIS)):
        raise sqlite3.IntegrityError("table meta does not hold the head of the events")
    return int(count), digest


def unkeyed_events(connection: sqlite3.Connection) -> int:
    """Number of the first events, which version 2 wrote. Their digests were made without a key."""
    row = connection.execute("SELECT value FROM meta WHERE name = 'unkeyed'").fetchone()
    return 0 if row is None else int(row[0])
