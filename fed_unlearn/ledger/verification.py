"""Whether a ledger is as it was written: its events, its tables, its seals and its schema."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from fed_unlearn.ledger.chain import GENESIS, Verification, event_digest, read_head, reference, unkeyed_events
from fed_unlearn.ledger.key import LedgerKey
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.ledger.reading import without_content
from fed_unlearn.ledger.schema import schema_problems
from fed_unlearn.ledger.seals import fits_no_row, sealed_problems
from fed_unlearn.text import printable

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

OTHER_KEY = (
    "nothing in it was sealed under this key, no event and no row: the key is another ledger's, or all of the ledger"
    " was made anew"
)
"""The one problem of a ledger with the key of another one."""


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


def verify_ledger(connection: sqlite3.Connection, key: LedgerKey, head: str | None) -> Verification:
    """Check every event's digest, that no event is missing, the tables, their seals, and the schema.

    Parameters
    ----------
    connection : sqlite3.Connection
        The open file. Everything is read in one transaction, while others may write.
    key : LedgerKey
        The ledger's key.
    head : str or None
        Digest of an event that was kept elsewhere, or its first 16 digits or more.
    """
    chain = _Chain()
    checks: tuple[Callable[[], Iterable[str]], ...] = (
        lambda: chain.read(connection, key.raw, head),
        lambda: _edited_rows(connection, key.references, chain.replay) if chain.is_intact else (),
        lambda: sealed_problems(connection, key.raw),
        lambda: schema_problems(connection),
        lambda: _damage(connection),
        lambda: _found_at_migration(connection),
    )
    problems: list[str] = []
    own = not connection.in_transaction
    try:
        if own:
            connection.execute("BEGIN")
        for check in checks:
            _collect(check, problems)
        if problems and _is_of_another_key(connection, key.raw):
            problems = [OTHER_KEY]
    except sqlite3.Error as error:
        problems.append(_unreadable(error))
    finally:
        if own and connection.in_transaction:
            connection.execute("ROLLBACK")
    return Verification(chain.events, problems[0] if problems else None, chain.head, tuple(problems))


def _is_of_another_key(connection: sqlite3.Connection, key: bytes) -> bool:
    """Whether nothing at all was sealed under a key: no event, no row, and not the head."""
    try:
        rows = connection.execute(
            "SELECT previous, sequence, time, request_id, name, attempt, facts, digest FROM events WHERE sequence > ?",
            (unkeyed_events(connection),),
        )
        return all(event_digest(key, *row) != digest for *row, digest in rows) and fits_no_row(connection, key)
    except (sqlite3.Error, ValueError, TypeError, AttributeError, OverflowError):
        return False


def verify_tables(connection: sqlite3.Connection, references: str) -> str | None:
    """The first problem of a file of version 2, whose events have no key and whose tables have no seals."""
    chain, problems = _Chain(), list[str]()
    _collect(lambda: chain.read(connection, None, None), problems)
    if chain.is_intact:
        _collect(lambda: _edited_rows(connection, references, chain.replay), problems)
    return problems[0] if problems else None


def _collect(check: Callable[[], Iterable[str]], problems: list[str]) -> None:
    """Add what a check finds. Rows of a damaged file may hold anything, so that what cannot be read is a finding."""
    try:
        for problem in check():
            problems.append(printable(problem))
    except (sqlite3.Error, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        problems.append(printable(_unreadable(error)))


def _unreadable(error: Exception) -> str:
    return f"the file is damaged: {without_content(error) or type(error).__name__}"


def _damage(connection: sqlite3.Connection) -> Iterator[str]:
    found = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
    if found != "ok":
        yield _unreadable(ValueError(found))


def _found_at_migration(connection: sqlite3.Connection) -> Iterator[str]:
    for (problem,) in connection.execute("SELECT value FROM meta WHERE name = 'found'"):
        yield f"before this version sealed the ledger: {problem}"


@dataclass
class _Chain:
    """What the events say, as far as they are intact."""

    replay: _Replay = field(default_factory=_Replay)
    events: int = 0
    head: str = GENESIS
    is_intact: bool = False

    def read(self, connection: sqlite3.Connection, key: bytes | None, kept: str | None) -> Iterator[str]:
        """Read all events; yield the first problem, and whether a head that was kept is missing."""
        self.events = int(connection.execute("SELECT COUNT(*) FROM events").fetchone()[0])
        problem = self._broken_at(connection, key)
        self.is_intact = problem is None
        if problem is not None:
            yield problem
        if kept is not None:
            pattern = kept.lower().rpartition(":")[2]
            found = connection.execute("SELECT 1 FROM events WHERE substr(digest, 1, ?) = ?", (len(pattern), pattern))
            if found.fetchone() is None and pattern != GENESIS[: len(pattern)]:
                yield (
                    f"no event has the digest {pattern[:16]}: the events up to the head that was kept are not all here,"
                    " or were written anew; an older copy of the ledger may have been put back"
                )

    def _broken_at(self, connection: sqlite3.Connection, key: bytes | None) -> str | None:
        count, sealed = read_head(connection)
        unkeyed = unkeyed_events(connection)
        expected = 1
        rows = connection.execute(
            "SELECT sequence, time, request_id, name, attempt, facts, previous, digest FROM events ORDER BY sequence"
        )
        for sequence, time, request_id, name, attempt, facts, before, digest in rows:
            if sequence != expected:
                return f"event {expected} is missing: event {sequence} comes next"
            if before != self.head:
                return f"event {sequence}: the digest of the event before it is not the one it was written after"
            secret = None if sequence <= unkeyed else key
            if event_digest(secret, self.head, sequence, time, request_id, name, attempt, facts) != digest:
                return f"event {sequence}: its columns are not those that its digest was made of"
            parsed = _parsed(facts)
            if not isinstance(parsed, dict):
                return f"event {sequence}: its facts are no JSON object"
            self.replay.add(name, request_id, attempt, parsed)
            expected, self.head = sequence + 1, digest
        if (expected - 1, self.head) != (count, sealed):
            what = f"event {expected} is missing" if count >= expected else f"event {expected - 1} is not the last one"
            return f"{what}: table meta has {count} events that end in {sealed[:12]}"
        return None


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
    keys = connection.execute("SELECT id, key FROM clients WHERE key IS NOT NULL").fetchall() if replay.keys else []
    if {reference(secret, client): key for client, key in keys} != replay.keys:
        yield "table clients was edited: it is not the keys that clients are bound to"
    if (tombstones, departed) != (replay.tombstones, replay.departed):
        yield "table clients was edited: it is not what clients confirmed, or who left"
    rows = connection.execute("SELECT request_id, client FROM owed").fetchall()
    if {(request_id, reference(secret, client)) for request_id, client in rows} != replay.owed:
        yield "table owed was edited: it is not what is owed by the events"
