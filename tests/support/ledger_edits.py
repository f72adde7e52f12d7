"""What somebody who can write a ledger's files might do to them, and how each of it must be found."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.chain import event_digest
from fed_unlearn.ledger.key import read_key
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.ledger.seals import seal_everything
from fed_unlearn.requests import ForgetRequest

TRIGGERS_OFF = ("DROP TRIGGER events_are_not_changed", "DROP TRIGGER events_are_not_removed")
Change = Callable[[Path], None]


@dataclass(frozen=True)
class Edit:
    """One edit.

    Attributes
    ----------
    name : str
        What is done.
    change : callable
        Does it to the ledger at a path.
    by_head : bool
        Whether the key was used, or a whole older file was put back, so that only a head kept elsewhere tells.
    """

    name: str
    change: Change
    by_head: bool = False


def write_ledger(path: Path) -> str:
    """Write a ledger in which everything happened once, and an older copy of it in folder ``older``; return its head."""
    ledger = Ledger(path)
    ledger.meet(["st-vincent", "charite", "ward-9"])
    ledger.note_claims("st-vincent", {"samples": 400})
    ledger.bind_client("st-vincent", "ab" * 32)
    ledger.accept_model("0" * 64, "initial")
    ledger.set_state("initial", "0" * 64)
    ledger.receive(ForgetRequest.for_class(3, priority=2))
    ledger.receive(ForgetRequest.for_samples("st-vincent", ["scan-17"]))
    ledger.set_state("served", {"update_norm": 0.5, "audit": None})
    ledger.set_state("request:r2", {"attempts": 1, "reason": "not yet"})
    ledger.confirm_tombstones("st-vincent", "11" * 32)
    (path.parent / "older").mkdir()
    ledger.backup(path.parent / "older" / path.name)
    ledger.receive(ForgetRequest.for_client("charite", deadline=100.0))
    ledger.advance("r1", Status.UNLEARNING, attempt=1, method="delete")
    ledger.advance("r1", Status.ROLLED_BACK, attempt=1, reason="st-vincent answered nothing")
    ledger.advance("r1", Status.UNLEARNING, attempt=2)
    ledger.advance("r1", Status.AUDITING, attempt=2)
    ledger.advance("r1", Status.COMMITTING, attempt=2, facts={"digest": "2" * 64, "forget_accuracy": 0.0})
    ledger.confirm_tombstones("st-vincent", "22" * 32)
    ledger.owe("r1", ["charite", "ward-9"])
    ledger.commit({"r1": {"forget_accuracy": 0.01}}, "2" * 64, attempts={"r1": 2})
    ledger.settle_owed("r1", "charite")
    ledger.advance("r2", Status.HELD, attempt=0, reason="st-vincent asks for much")
    ledger.set_state("served", {"update_norm": 0.7, "audit": None})
    ledger.set_state("experiences", [{"rounds": 4}, {"rounds": 2}])
    ledger.set_state("relapse-looks-due", {"train:2": 0.0})
    ledger.depart("ward-9")
    for number in range(12):
        ledger.note("round", {"number": number})
    head = ledger.verify().head
    ledger.close()
    return head


def sql(*statements: str) -> Change:
    """Run statements, as somebody with a database tool would."""

    def change(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    return change


def quietly(connection: sqlite3.Connection, statements: Iterable[str]) -> None:
    """Run statements while the triggers that protect events are away, and put these back."""
    triggers = [row[0] for row in connection.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger'")]
    for statement in (*TRIGGERS_OFF, *statements, *triggers):
        connection.execute(statement)


def events(*statements: str) -> Change:
    """Edit events, and leave their triggers as they were."""

    def change(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            quietly(connection, statements)
            connection.commit()

    return change


def cut(count: int, *, with_head: bool) -> Change:
    """Remove the last events, and put the head back to the one before them."""

    def change(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            (last,) = connection.execute("SELECT MAX(sequence) FROM events").fetchone()
            quietly(connection, [f"DELETE FROM events WHERE sequence > {last - count}"])
            if with_head:
                (digest,) = connection.execute("SELECT digest FROM events ORDER BY sequence DESC").fetchone()
                connection.execute("UPDATE meta SET value = ? WHERE name = 'head'", (f"{last - count} {digest}",))
            connection.commit()

    return change


def written_anew(*statements: str, with_key: bool = False, keeps_events: bool = False) -> Change:
    """Edit, then make the chain fit again: as version 2 did, without a key, or with the key and all seals."""

    def change(path: Path) -> None:
        key = read_key(path.with_suffix(".key")).raw if with_key else None
        with closing(sqlite3.connect(path)) as connection:
            triggers = [row[0] for row in connection.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger'")]
            for statement in (*TRIGGERS_OFF, *statements):
                connection.execute(statement)
            previous, sequence = "0" * 64, 0
            rows = connection.execute("SELECT sequence, time, request_id, name, attempt, facts FROM events")
            for columns in [] if keeps_events else rows.fetchall():
                sequence, digest = columns[0], event_digest(key, previous, *columns)
                values = (previous, digest, sequence)
                connection.execute("UPDATE events SET previous = ?, digest = ? WHERE sequence = ?", values)
                previous = digest
            if not keeps_events:
                connection.execute("UPDATE meta SET value = ? WHERE name = 'head'", (f"{sequence} {previous}",))
            for text in triggers:
                connection.execute(text)
            if key is not None:
                connection.execute("DELETE FROM seals")
                connection.execute("DELETE FROM meta WHERE name = 'seal'")
                seal_everything(connection, key)
            connection.commit()

    return change


def row_of_older(table: str, condition: str, *, with_seals: bool = False) -> Change:
    """Put rows of the older copy in the place of the present ones, their codes too if wanted."""

    def change(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("ATTACH ? AS older", (str(path.parent / "older" / path.name),))
            connection.execute(f"INSERT OR REPLACE INTO {table} SELECT * FROM older.{table} WHERE {condition}")
            if with_seals:
                connection.execute(f"DELETE FROM seals WHERE name = '{table}'")
                connection.execute(f"INSERT INTO seals SELECT * FROM older.seals WHERE name = '{table}'")
            connection.commit()

    return change


def put_back(path: Path) -> None:
    """Put the whole older file in the place of the present one."""
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    shutil.copy(path.parent / "older" / path.name, path)


def other_key(path: Path) -> None:
    """Put another key in the place of the ledger's."""
    key = json.loads(path.with_suffix(".key").read_text())
    path.with_suffix(".key").write_text(json.dumps({**key, "key": hashlib.sha256(b"another").hexdigest()}))


def then_served(edit: Change, step: Callable[[Ledger], object]) -> Change:
    """Edit, and let an unsuspecting server write the same row afterwards."""

    def change(path: Path) -> None:
        edit(path)
        with closing(Ledger(path)) as ledger:
            step(ledger)

    return change


def bytes_of(path: Path, old: bytes, new: bytes) -> None:
    """Change bytes of the file past SQLite."""
    content = path.read_bytes()
    assert old in content and len(old) == len(new)
    path.write_bytes(content.replace(old, new))
