"""Checks that a ledger's chain of events is unchanged, and that its tables agree with the events."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fed_unlearn.ledger.chain import GENESIS, Verification, event_digest, read_head, reference
from fed_unlearn.ledger.lifecycle import Status

_STEPS = frozenset(Status)
MEANINGFUL_NOTES = frozenset(
    {"approved", "released", "owed", "owed-settled", "model-accepted", "tombstones-confirmed", "client-departed"}
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
    rows = connection.execute("SELECT id, tombstones, departed FROM clients").fetchall()
    tombstones = {reference(secret, client): digest for client, digest, _ in rows if digest is not None}
    departed = {reference(secret, client) for client, _, gone in rows if gone}
    if (tombstones, departed) != (replay.tombstones, replay.departed):
        yield "table clients was edited: it is not what clients confirmed, or who left"
    rows = connection.execute("SELECT request_id, client FROM owed").fetchall()
    if {(request_id, reference(secret, client)) for request_id, client in rows} != replay.owed:
        yield "table owed was edited: it is not what is owed by the events"
