"""Whether a receipt says what a ledger says: of its place in the chain, and of all that the events determine."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.ledger.chain import GENESIS, LedgerEvent, read_head, reference
from fed_unlearn.ledger.endings import Ending, endings, event_at
from fed_unlearn.ledger.key import LedgerKey, read_key
from fed_unlearn.ledger.lifecycle import FINAL
from fed_unlearn.ledger.reading import damage_of, opened_to_read
from fed_unlearn.ledger.schema import schema_problems
from fed_unlearn.ledger.seals import define_seal
from fed_unlearn.ledger.verification import OTHER_KEY, verify_ledger
from fed_unlearn.receipts.document import FIGURES, Audits, Place, Receipt
from fed_unlearn.receipts.issuing import Account, chain_facts, installed_versions
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.text import printable, quoted

_UNSEALED = (
    "whether the ledger's owner wrote these events, and nobody changed them or the tables since: this takes the"
    " ledger's key (--ledger-key)"
)
_UNNAMED = (
    "whether the receipt is of the request at its place: the receipt names it by a reference, under the ledger's key"
)
_NOT_KEPT = "goal, figures, reasons and evidence: the ledger keeps those of the request's last end alone"
_FROM_ROW = {
    "scope": "kind of request",
    "classes": "classes",
    "samples": "number of samples",
    "goal": "goal",
    "reasons": "reasons",
    "method": "method",
    "evidence": "evidence",
    "witnesses": "witnesses",
    "audits": "figures",
}
_FROM_EVENTS = {
    "request_digest": "reference of the request",
    "asked": "time of receipt",
    "ended": "time of the end",
    "status": "status",
    "attempts": "number of attempts",
    "number": "number of the receipt",
    "supersedes": "receipt that it supersedes",
    "models": "digests of the models",
}


@dataclass(frozen=True)
class LedgerCheck:
    """What a ledger says of a receipt.

    Attributes
    ----------
    problems : tuple of str
        What differs, one sentence each. Empty if nothing does.
    checked : tuple of str
        What was compared.
    unchecked : tuple of str
        What could not be checked, and what it takes.
    since : tuple of str
        What happened to the request after its end, such as a relapse.
    """

    problems: tuple[str, ...] = ()
    checked: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    since: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether nothing differs."""
        return not self.problems


def check_in_ledger(receipt: Receipt, ledger: Path, key: Path | None = None) -> LedgerCheck:
    """Hold a receipt against a ledger. The ledger is only read; a server may write it meanwhile.

    Parameters
    ----------
    receipt : Receipt
        A receipt whose signature is right.
    ledger : Path
        The ledger's file.
    key : Path, optional
        The file of the ledger's key. With it, every event and every row is checked for edits. It is never looked for.

    Raises
    ------
    FedUnlearnError
        If the file is no ledger of this version, or the file or the key cannot be read.
    """
    secret = None if key is None else read_key(key)
    with opened_to_read(ledger) as connection:
        try:
            return _Checking(receipt, connection, secret).result()
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            if isinstance(error, FedUnlearnError):
                raise
            what = printable(f"{type(error).__name__}: {error}")
            return LedgerCheck(problems=(f"the ledger was changed since it was written, and cannot be read: {what}",))


@dataclass
class _Checking:
    """One comparison."""

    receipt: Receipt
    connection: sqlite3.Connection
    key: LedgerKey | None
    checked: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    since: list[str] = field(default_factory=list)

    def result(self) -> LedgerCheck:
        problems = tuple(dict.fromkeys(printable(problem, 1000) for problem in self._problems()))
        return LedgerCheck(problems, tuple(self.checked), tuple(self.unchecked), tuple(self.since))

    def _problems(self) -> Iterator[str]:
        if (damage := damage_of(self.connection)) is not None:
            yield f"the ledger's file was damaged or cut short: {damage}"
        changed = list(schema_problems(self.connection))
        yield from changed
        if changed:
            return
        row = self.connection.execute("SELECT value FROM meta WHERE name = 'identity'").fetchone()
        if row is None or row[0] != self.receipt.ledger:
            yield f"another ledger: the receipt is of ledger {self.receipt.ledger}, and this is {row and row[0]}"
            return
        self.checked.append("its identity")
        yield from self._sealed()
        count, _ = read_head(self.connection)
        missing = [place for place in self._places().values() if place.sequence > count]
        if missing:
            yield (
                f"an older copy of the ledger, or one that events were cut off from: it has {count} events, and the"
                f" receipt was issued when there were {self.receipt.positions.head.sequence}"
            )
            return
        yield from self._at_their_places()

    def _sealed(self) -> Iterator[str]:
        """Whether the events follow one another and, with the key, whether anything was edited."""
        if self.key is not None:
            define_seal(self.connection, self.key.raw)
            problems = verify_ledger(self.connection, self.key, None).problems
            yield from problems
            if OTHER_KEY in problems:
                self.key = None  # it says nothing of the names of this ledger's requests
            self.checked.append("every event and every row is as it was sealed under the ledger's key")
            return
        self.unchecked.append(_UNSEALED)
        expected, head = 1, GENESIS
        for sequence, before, digest in self.connection.execute(
            "SELECT sequence, previous, digest FROM events ORDER BY sequence"
        ):
            if sequence != expected:
                yield f"event {expected} is missing: event {sequence} comes next"
                return
            if before != head:
                yield f"event {sequence}: the digest of the event before it is not the one it was written after"
                return
            expected, head = sequence + 1, digest
        if (expected - 1, head) != read_head(self.connection):
            yield f"event {expected} is missing, or the head was edited"
        self.checked.append("its events follow one another without a gap")

    def _places(self) -> dict[str, Place]:
        positions = self.receipt.positions
        return {"receipt of the request": positions.received, "end": positions.ended, "head": positions.head}

    def _at_their_places(self) -> Iterator[str]:
        found: dict[str, LedgerEvent | None] = {}
        for name, place in self._places().items():
            found[name] = event = event_at(self.connection, place.sequence)
            if event is None:
                yield f"event {place.sequence} ({name}) is missing"
            elif event.digest != place.digest:
                yield (
                    f"event {place.sequence} ({name}) is another one: its digest is {event.digest[:16]}, and"
                    f" {place.digest[:16]} in the receipt; the ledger was written anew, or is another one"
                )
        ended = found["end"]
        if ended is None or ended.digest != self.receipt.positions.ended.digest:
            return
        self.checked.append("the events by which the request came and ended, and the head when the receipt was issued")
        if ended.request_id is None or ended.name not in FINAL:
            yield f"event {ended.sequence} is {ended.name}, which is not the end of a request"
            return
        yield from self._named(ended.request_id)
        ending = next(
            (each for each in endings(self.connection, ended.request_id) if each.ended.sequence == ended.sequence), None
        )
        if ending is None:
            yield f"event {ended.sequence}: no event says that the request was received"
            return
        yield from self._as_the_events_have_it(ending)
        yield from self._as_the_row_has_it(ended.request_id, ending)
        self._happened_since(ended)

    def _named(self, request_id: str) -> Iterator[str]:
        if self.receipt.named_by == "id":
            known = request_id
        elif self.key is not None:
            known = reference(self.key.references, request_id)
        else:
            self.unchecked.append(_UNNAMED)
            return
        if known != self.receipt.request:
            yield f"event {self.receipt.positions.ended.sequence} is of request {known}, not of {self.receipt.request}"

    def _as_the_events_have_it(self, ending: Ending) -> Iterator[str]:
        received = self.receipt.positions.received
        if (ending.received.sequence, ending.received.digest) != (received.sequence, received.digest):
            yield f"event {received.sequence} is not the one by which the request came"
        yield from self._differences(_FROM_EVENTS, chain_facts(ending))
        self.checked.append("by the events, the " + ", ".join(_FROM_EVENTS.values()))

    def _as_the_row_has_it(self, request_id: str, ending: Ending) -> Iterator[str]:
        row = self.connection.execute("SELECT body, outcome FROM requests WHERE id = ?", (request_id,)).fetchone()
        if row is None:
            yield "the request's row is missing"
            return
        outcome = None if row[1] is None else json.loads(row[1])
        account = Account.of(ForgetRequest.from_json(row[0]), ending, outcome, [])
        facts, names = account.facts, dict(_FROM_ROW)
        facts["audits"] = self._those_told(facts["audits"])
        if not account.is_whole:
            self.unchecked.append(_NOT_KEPT)
            names = {name: names[name] for name in ("scope", "classes", "samples")}
        elif self.receipt.reasons != facts["reasons"] and (issuer := self._other_issuer()) is not None:
            del names["reasons"]
            self.unchecked.append(f"the reasons: fed-unlearn {issuer} issued the receipt, and has other words for them")
        yield from self._differences(names, facts)
        self.checked.append("by the row of the request, the " + ", ".join(names.values()))

    def _other_issuer(self) -> str | None:
        """Version of the library that issued the receipt, if it is not this one: each has its own words of reasons."""
        issuer = self.receipt.versions.get("fed-unlearn")
        return None if issuer == installed_versions().get("fed-unlearn") else issuer

    def _those_told(self, audits: Audits) -> Audits:
        """Figures of the ledger without those that the receipt leaves out because their names hold a client's."""
        told = self.receipt.audits
        return Audits(
            before={name: each for name, each in audits.before.items() if name in FIGURES or name in told.before},
            after={name: each for name, each in audits.after.items() if name in FIGURES or name in told.after},
        )

    def _differences(self, names: dict[str, str], facts: dict[str, Any]) -> Iterator[str]:
        for name, called in names.items():
            said, known = getattr(self.receipt, name), facts[name]
            if said != known:
                is_short = not isinstance(said, BaseModel)
                values = f": {quoted(said, 80)} and {quoted(known, 80)}" if is_short else ""
                yield f"receipt and ledger differ in the {called}{values}"

    def _happened_since(self, ended: LedgerEvent) -> None:
        rows = self.connection.execute(
            "SELECT sequence, name FROM events WHERE request_id = ? AND sequence > ? ORDER BY sequence",
            (ended.request_id, ended.sequence),
        )
        told = {"relapsed", "reopened", *FINAL}
        self.since.extend(f"event {sequence}: the request is {name}" for sequence, name in rows if name in told)
