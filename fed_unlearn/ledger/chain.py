"""The chain of events: how events are appended, and whether a ledger is as it was written."""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fed_unlearn.ledger.lifecycle import Status

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
    """The result of :meth:`~fed_unlearn.ledger.ledger.Ledger.verify`.

    Attributes
    ----------
    events : int
        Number of events.
    problem : str or None
        The first broken row and what is wrong with it. None if the ledger is intact.
    head : str
        Digest of the last event. A copy of it that is kept elsewhere proves later that no event up to it was changed,
        even if somebody rewrites the whole file.
    """

    events: int
    problem: str | None
    head: str = GENESIS


def canonical_json(value: object) -> str:
    """Encode a value as JSON without spaces and with sorted keys, so that equal values give equal text."""
    return _CANONICAL.encode(value)


def reference(secret: str, text: str) -> str:
    """Opaque reference to a text: the first 16 hexadecimal digits of its HMAC-SHA256 under a ledger's secret."""
    return hmac.digest(secret.encode(), text.encode(), "sha256").hex()[:16]


def event_digest(
    previous: str, sequence: int, time: float, request_id: str | None, name: str, attempt: int, facts: str
) -> str:
    """SHA-256, in hexadecimal, over the previous digest and the canonical JSON of an event's columns."""
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
    """Add an event after the head and move the head, in the open transaction.

    The head is read from table ``meta``, not from the last row, so that a gap stays if rows were cut off the end.
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


_STEPS = frozenset(Status)
MEANINGFUL_NOTES = frozenset(
    {
        "approved",
        "released",
        "owed",
        "owed-settled",
        "model-accepted",
        "tombstones-confirmed",
        "client-departed",
        "client-bound",
    }
)
"""Names of events that are not steps of requests but determine what a row of a table must hold."""


@dataclass
class _Request:
    """A request's row as its events determine it."""

    status: str = ""
    attempt: int = 0
    body: str | None = None
    outcome: str | None = None
    flags: dict[str, int] = field(default_factory=lambda: {"approved": 0, "ever_committed": 0, "release_due": 0})


@dataclass
class _Replay:
    """The contents of the tables as the events determine them."""

    requests: dict[str, _Request] = field(default_factory=dict)
    models: list[tuple[str, str]] = field(default_factory=list)
    tombstones: dict[str, str] = field(default_factory=dict)
    departed: set[str] = field(default_factory=set)
    keys: dict[str, str] = field(default_factory=dict)
    owed: set[tuple[str, str]] = field(default_factory=set)

    def add(self, name: str, request_id: str | None, attempt: int, facts: dict[str, Any]) -> None:
        """Apply one event."""
        if request_id is not None and name in _STEPS:
            request = self.requests.setdefault(request_id, _Request())
            request.status, request.attempt = name, attempt
            request.body = facts.get("request", request.body)
            request.outcome = facts.get("outcome", request.outcome)
            request.flags["ever_committed"] |= name == Status.COMMITTED
            request.flags["release_due"] |= name == Status.WITHDRAWN
            return
        match name, request_id:
            case "approved", str(known) if known in self.requests:
                self.requests[known].flags["approved"] = 1
            case "released", str(known) if known in self.requests:
                self.requests[known].flags["release_due"] = 0
            case "owed", str(known):
                self.owed.add((known, str(facts.get("client"))))
            case "owed-settled", str(known):
                self.owed.discard((known, str(facts.get("client"))))
            case "model-accepted", _:
                self.models.append((str(facts.get("digest")), str(facts.get("after"))))
            case "tombstones-confirmed", _:
                self.tombstones[str(facts.get("client"))] = str(facts.get("digest"))
            case "client-departed", _:
                self.departed.add(str(facts.get("client")))
            case "client-bound", _ if facts.get("key") is None:
                self.keys.pop(str(facts.get("client")), None)
            case "client-bound", _:
                self.keys[str(facts.get("client"))] = str(facts.get("key"))


def verify_ledger(connection: sqlite3.Connection, secret: str) -> Verification:
    """Check every event's digest, that no event is missing, and that the tables agree with the events.

    Parameters
    ----------
    connection : sqlite3.Connection
        The open file. Everything is read in one transaction, while others may write.
    secret : str
        The ledger's secret, from which references are made.
    """
    own = not connection.in_transaction
    if own:
        connection.execute("BEGIN")
    try:
        events = int(connection.execute("SELECT COUNT(*) FROM events").fetchone()[0])
        replay = _Replay()
        head, problem = _check_chain(connection, replay)
        if problem is None:
            problem = next(_edited_rows(connection, secret, replay), None)
        return Verification(events, problem, head)
    finally:
        if own:
            connection.execute("ROLLBACK")


def _check_chain(connection: sqlite3.Connection, replay: _Replay) -> tuple[str, str | None]:
    """Digest of the last intact event, and the first problem in the chain or None."""
    try:
        count, sealed = read_head(connection)
    except sqlite3.IntegrityError as error:
        return GENESIS, str(error)
    expected, previous = 1, GENESIS
    rows = connection.execute(
        "SELECT sequence, time, request_id, name, attempt, facts, previous, digest FROM events ORDER BY sequence"
    )
    for sequence, time, request_id, name, attempt, facts, before, digest in rows:
        if sequence != expected:
            return previous, f"event {expected} is missing: event {sequence} comes next"
        if before != previous:
            return previous, f"event {sequence}: the digest of the event before it is not the one it was written after"
        if event_digest(previous, sequence, time, request_id, name, attempt, facts) != digest:
            return previous, f"event {sequence}: its columns are not those that its digest was made of"
        parsed = _parsed(facts)
        if not isinstance(parsed, dict):
            return previous, f"event {sequence}: its facts are no JSON object"
        replay.add(name, request_id, attempt, parsed)
        expected, previous = sequence + 1, digest
    if (expected - 1, previous) != (count, sealed):
        what = f"event {expected} is missing" if count >= expected else f"event {expected - 1} is not the last one"
        return previous, f"{what}: table meta has {count} events that end in {sealed[:12]}"
    return previous, None


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _edited_rows(connection: sqlite3.Connection, secret: str, replay: _Replay) -> Iterator[str]:
    rest = dict(replay.requests)
    rows = connection.execute(
        "SELECT id, status, attempt, body, outcome, priority, deadline, approved, ever_committed, release_due"
        " FROM requests ORDER BY sequence"
    )
    for request_id, status, attempt, body, outcome, priority, deadline, *flags in rows:
        request = rest.pop(request_id, None)
        if request is None:
            yield f"request {request_id}: the table was edited: no event says that it was received"
            continue
        if (status, attempt) != (request.status, request.attempt):
            yield (
                f"request {request_id}: the table was edited: it is {status} in attempt {attempt}, and"
                f" {request.status} in attempt {request.attempt} by its last event"
            )
        asked = json.loads(body) if reference(secret, body) == request.body else None
        if asked is None or (asked.get("priority", 0), asked.get("deadline")) != (priority, deadline):
            yield f"request {request_id}: the table was edited: what it asks for is not what was received"
        if (None if outcome is None else reference(secret, outcome)) != request.outcome:
            yield f"request {request_id}: the table was edited: its outcome is not the one that was recorded"
        for (column, recorded), value in zip(request.flags.items(), flags, strict=True):
            if value != recorded:
                yield f"request {request_id}: the table was edited: {column} is {value}, and {recorded} by its events"
    for request_id in rest:
        yield f"request {request_id}: the table was edited: the row is missing"
    models = connection.execute("SELECT digest, accepted_after FROM models ORDER BY sequence").fetchall()
    if models != replay.models:
        yield "table models was edited: it is not the models that were accepted"
    yield from _edited_clients(connection, secret, replay)


def _edited_clients(connection: sqlite3.Connection, secret: str, replay: _Replay) -> Iterator[str]:
    rows = connection.execute("SELECT id, tombstones, departed, key FROM clients").fetchall()
    tombstones = {reference(secret, client): digest for client, digest, _, _ in rows if digest is not None}
    departed = {reference(secret, client) for client, _, gone, _ in rows if gone}
    if {reference(secret, client): key for client, _, _, key in rows if key is not None} != replay.keys:
        yield "table clients was edited: it is not the keys that clients are bound to"
    if (tombstones, departed) != (replay.tombstones, replay.departed):
        yield "table clients was edited: it is not what clients confirmed, or who left"
    rows = connection.execute("SELECT request_id, client FROM owed").fetchall()
    if {(request_id, reference(secret, client)) for request_id, client in rows} != replay.owed:
        yield "table owed was edited: it is not what is owed by the events"
