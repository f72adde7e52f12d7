"""How the events say that a request ended: when, at which place in the chain, and between which two models."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from fed_unlearn.ledger.chain import Fact, LedgerEvent
from fed_unlearn.ledger.lifecycle import FINAL, Status

_COLUMNS = "sequence, time, request_id, name, attempt, facts, digest"


@dataclass(frozen=True, kw_only=True)
class Ending:
    """One end of a request. A request that was opened again has several.

    Attributes
    ----------
    number : int
        Number of the end among those of the request, counted from 1.
    is_last : bool
        Whether the request has not ended again since.
    received : LedgerEvent
        The event by which the request came.
    ended : LedgerEvent
        The event by which it ended. Its name is the status.
    supersedes : str or None
        Digest of the event of the end before this one.
    method : str or None
        The method of the last attempt, where the events name one.
    was_tried : bool
        Whether an attempt had begun.
    accepted : mapping of str to str, int, float, bool or None
        What the events hold of the model that the request was accepted with: its digest and figures. Empty if the
        request was not committed.
    model_before, model_after : str or None
        Digests of the models that served before and after. They are equal if the request was not committed. None if no
        model served.
    """

    number: int
    is_last: bool
    received: LedgerEvent
    ended: LedgerEvent
    supersedes: str | None
    method: str | None
    was_tried: bool
    accepted: Mapping[str, Fact]
    model_before: str | None
    model_after: str | None

    @property
    def status(self) -> Status:
        """The status in which the request ended."""
        return Status(self.ended.name)


def endings(connection: sqlite3.Connection, request_id: str) -> list[Ending]:
    """All ends of a request, the first one first; empty if it has not ended, or there is no such request.

    Parameters
    ----------
    connection : sqlite3.Connection
        A ledger's file.
    request_id : str
        Id of the request.

    Raises
    ------
    ValueError
        If the facts of an event are no JSON object, because somebody edited them.
    sqlite3.Error
        If the file cannot be read.
    """
    events = [event_of(row) for row in connection.execute(_select("request_id = ? ORDER BY sequence"), (request_id,))]
    received = next((event for event in events if event.name == Status.RECEIVED and "request" in event.facts), None)
    ends = [event for event in events if event.name in FINAL]
    if received is None:
        return []
    found, before = list[Ending](), None
    for number, ended in enumerate(ends, start=1):
        earlier = [event for event in events if event.sequence < ended.sequence]
        tries = [event for event in earlier if event.name == Status.UNLEARNING]
        accepted = [event.facts for event in earlier if event.name == Status.COMMITTING]
        served, after = _models(connection, ended)
        found.append(
            Ending(
                number=number,
                is_last=number == len(ends),
                received=received,
                ended=ended,
                supersedes=before,
                method=next((str(event.facts["method"]) for event in reversed(tries) if "method" in event.facts), None),
                was_tried=bool(tries),
                accepted=accepted[-1] if accepted and ended.name == Status.COMMITTED else {},
                model_before=served,
                model_after=after,
            )
        )
        before = ended.digest
    return found


def event_at(connection: sqlite3.Connection, sequence: int) -> LedgerEvent | None:
    """The event of a number. None if the ledger has none.

    Raises
    ------
    ValueError
        If its facts are no JSON object.
    """
    row = connection.execute(_select("sequence = ?"), (sequence,)).fetchone()
    return None if row is None else event_of(row)


def event_of(row: tuple[int, float, str | None, str, int, str, str]) -> LedgerEvent:
    """An event from its row: sequence, time, request, name, attempt, facts and digest.

    Raises
    ------
    ValueError
        If its facts are no JSON object.
    """
    facts = json.loads(row[5])
    if not isinstance(facts, dict):
        raise ValueError(f"event {row[0]}: its facts are no JSON object")
    return LedgerEvent(row[0], row[1], row[2], row[3], row[4], facts, row[6])


def _models(connection: sqlite3.Connection, ended: LedgerEvent) -> tuple[str | None, str | None]:
    """Digests of the models that served before and after an end.

    Requests that share a commit end one after the other, and the event of their model follows the last of them.
    """
    accepted = "name = 'model-accepted'"
    row = connection.execute(_select(f"{accepted} AND sequence < ? ORDER BY sequence DESC LIMIT 1"), (ended.sequence,))
    before = _model_of(row.fetchone())
    if ended.name != Status.COMMITTED:
        return before, before
    row = connection.execute(
        _select("name != 'committed' AND sequence > ? ORDER BY sequence LIMIT 1"), (ended.sequence,)
    )
    following = row.fetchone()
    is_model = following is not None and following[3] == "model-accepted"
    return before, _model_of(following) if is_model else before


def _model_of(row: tuple[int, float, str | None, str, int, str, str] | None) -> str | None:
    return None if row is None else str(event_of(row).facts.get("digest"))


def _select(condition: str) -> str:
    return f"SELECT {_COLUMNS} FROM events WHERE {condition}"
