import hashlib
import hmac
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.key import read_key
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.ledger.seals import seal_everything
from fed_unlearn.requests import ForgetRequest

COLUMNS = "sequence, time, request_id, name, attempt, facts"


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A ledger in which everything happened once."""
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.accept_model("model-0", "initial")
    ledger.receive(ForgetRequest.for_class(3, priority=2))
    ledger.receive(ForgetRequest.for_samples("st-vincent", ["scan-17"]))
    ledger.receive(ForgetRequest.for_client("charite", deadline=100.0))
    ledger.advance("r1", Status.UNLEARNING, attempt=1, method="delete")
    ledger.advance("r1", Status.ROLLED_BACK, attempt=1, reason="st-vincent answered nothing")
    ledger.advance("r1", Status.UNLEARNING, attempt=2)
    ledger.advance("r1", Status.AUDITING, attempt=2)
    ledger.advance("r1", Status.COMMITTING, attempt=2, facts={"digest": "model-1"})
    ledger.confirm_tombstones("st-vincent", "tombstones")
    ledger.owe("r1", ["charite", "ward-9"])
    ledger.commit({"r1": {"forget_accuracy": 0.01}}, "model-1", attempts={"r1": 2})
    ledger.settle_owed("r1", "charite")
    ledger.advance("r2", Status.HELD, attempt=0, reason="st-vincent asks for much")
    ledger.approve("r2")
    ledger.withdraw("r3")
    ledger.released("r3")
    ledger.note("client-left-out", {"client": "st-vincent", "reason": "st-vincent sent NaN", "round": 3})
    ledger.depart("ward-9")
    ledger.close()
    yield tmp_path / "ledger.db"


def tamper(path: Path, *statements: str) -> None:
    """What somebody with a database tool does, the triggers out of the way and back in their place afterwards."""
    connection = sqlite3.connect(path)
    triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for trigger, _ in triggers:
        connection.execute(f"DROP TRIGGER {trigger}")
    for statement in statements:
        assert connection.execute(statement).rowcount > 0
    for _, text in triggers:
        connection.execute(text)
    connection.commit()
    connection.close()


def problem(path: Path) -> str:
    ledger = Ledger(path)
    verification = ledger.verify()
    ledger.close()
    assert verification.problem is not None
    return verification.problem


def sealed(path: Path, previous: str, columns: list[object]) -> str:
    """The seal of an event's columns, for whoever has the key."""
    key = bytes.fromhex(json.loads(path.with_suffix(".key").read_text())["key"])
    text = json.dumps(columns, separators=(",", ":"))
    return hmac.new(key, f"{previous}{text}".encode(), hashlib.sha256).hexdigest()


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    found = connection.execute(sql).fetchall()
    connection.close()
    return found


def test_the_seals_are_those_of_the_definition(path: Path) -> None:
    previous = "0" * 64
    for *columns, before, digest in rows(path, f"SELECT {COLUMNS}, previous, digest FROM events ORDER BY sequence"):
        assert (before, digest) == (previous, sealed(path, previous, columns))
        previous = str(digest)
    ledger = Ledger(path)
    verification = ledger.verify()
    assert (verification.events, verification.problem, verification.head) == (22, None, previous)
    assert [event.digest for event in ledger.events()][-1] == previous
    ledger.close()


def test_events_name_no_client_and_give_no_reason(path: Path) -> None:
    text = "\n".join(map(str, rows(path, f"SELECT {COLUMNS} FROM events")))
    assert not any(word in text for word in ("st-vincent", "charite", "ward-9", "scan-17", "reason", "NaN"))
    secret = json.loads(path.with_suffix(".key").read_text())["references"]
    expected = hmac.new(secret.encode(), b"st-vincent", hashlib.sha256).hexdigest()[:16]
    ledger = Ledger(path)
    assert ledger.client_reference("st-vincent") == expected
    named = [event.name for event in ledger.events() if event.facts.get("client") == expected]
    assert named == ["tombstones-confirmed", "client-left-out"]
    ledger.note("client-left-out", {"client": expected})
    assert ledger.events()[-1].facts["client"] == expected
    ledger.meet([expected])  # from here on it is the name of a client
    ledger.note("client-left-out", {"client": expected})
    assert ledger.events()[-1].facts["client"] == ledger.client_reference(expected)
    ledger.close()


def test_names_of_clients_in_other_facts_become_references(path: Path) -> None:
    ledger = Ledger(path)
    ledger.meet(["anna.mueller", "ward 9", "7", "r1"])
    names = {name: ledger.client_reference(name) for name in ledger.known_clients()}
    for text, expected in (
        ("anna.mueller", names["anna.mueller"]),
        ("tombstones:ward 9", f"tombstones:{names['ward 9']}"),
        ("r1+anna.mueller", f"r1+{names['anna.mueller']}"),
        ("found at 7", f"found at {names['7']}"),
        ("train:7", "train:7"),
        ("r1", "r1"),
        ("mask-output", "mask-output"),
    ):
        ledger.note("seen", {"after": text})
        assert ledger.events()[-1].facts == {"after": expected}
    ledger.close()


def test_a_reference_means_nothing_in_another_ledger(tmp_path: Path) -> None:
    ledgers = [Ledger(tmp_path / name) for name in ("a.db", "b.db")]
    assert len({ledger.client_reference("7") for ledger in ledgers}) == 2
    for ledger in ledgers:
        ledger.close()


@pytest.mark.parametrize("statement", ["UPDATE events SET attempt = 9", "DELETE FROM events WHERE sequence = 4"])
def test_the_database_refuses_to_change_events(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="events are never"):
        connection.execute(statement)
    connection.close()
    assert len(rows(path, "SELECT * FROM events")) == 22


@pytest.mark.parametrize(
    "change",
    [
        "time = time + 1",
        "request_id = 'r9'",
        "name = 'other'",
        "attempt = attempt + 1",
        'facts = \'{"digest":"model-9"}\'',
        "digest = 'g' || substr(digest, 2)",
        "previous = 'g' || substr(previous, 2)",
    ],
)
@pytest.mark.parametrize("sequence", [1, 9, 22])
def test_an_edited_event_is_found(path: Path, change: str, sequence: int) -> None:
    tamper(path, f"UPDATE events SET {change} WHERE sequence = {sequence}")
    assert problem(path).startswith(f"event {sequence}: ")


@pytest.mark.parametrize("sequence", [1, 9, 21])
def test_a_removed_event_is_found(path: Path, sequence: int) -> None:
    tamper(path, f"DELETE FROM events WHERE sequence = {sequence}")
    assert problem(path) == f"event {sequence} is missing: event {sequence + 1} comes next"


def test_a_tail_that_was_cut_off_is_found_even_when_more_was_written_since(path: Path) -> None:
    tamper(path, "DELETE FROM events WHERE sequence > 20")
    assert problem(path).startswith("event 21 is missing: table meta has 22 events")
    ledger = Ledger(path)
    ledger.note("later", {})
    ledger.close()
    assert problem(path) == "event 21 is missing: event 23 comes next"


def test_an_event_that_was_put_in_is_found(path: Path) -> None:
    tamper(
        path,
        "INSERT INTO events SELECT 23, time, request_id, name, attempt, facts, digest, digest FROM events WHERE sequence = 22",
    )
    assert problem(path).startswith("event 23: its columns are not those that its digest was made of")


def test_an_event_with_a_good_seal_that_was_put_in_is_found(path: Path) -> None:
    ((previous,),) = rows(path, "SELECT digest FROM events WHERE sequence = 22")
    digest = sealed(path, str(previous), [23, 5.0, None, "note", 0, "{}"])
    tamper(path, f"INSERT INTO events VALUES (23, 5.0, NULL, 'note', 0, '{{}}', '{previous}', '{digest}')")
    assert problem(path).startswith("event 23 is not the last one: table meta has 22 events")


def test_two_events_that_changed_places_are_found(path: Path) -> None:
    tamper(
        path,
        "UPDATE events SET sequence = -1 WHERE sequence = 5",
        "UPDATE events SET sequence = 5 WHERE sequence = 6",
        "UPDATE events SET sequence = 6 WHERE sequence = -1",
    )
    assert problem(path).startswith("event 5: ")


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE requests SET status = 'committed' WHERE id = 'r3'", "request r3: the table was edited: it is committed"),
        ("UPDATE requests SET attempt = 1 WHERE id = 'r1'", "request r1: the table was edited: it is committed in attempt 1, and committed in attempt 2"),
        ("UPDATE requests SET body = replace(body, 'scan-17', 'scan-18')", "request r2: the table was edited: what it asks for"),
        ("UPDATE requests SET priority = 9 WHERE id = 'r2'", "request r2: the table was edited: what it asks for"),
        ("UPDATE requests SET deadline = 1 WHERE id = 'r3'", "request r3: the table was edited: what it asks for"),
        ("UPDATE requests SET outcome = replace(outcome, '0.01', '0.00')", "request r1: the table was edited: its outcome"),
        ("UPDATE requests SET approved = 1 WHERE id = 'r1'", "request r1: the table was edited: approved is 1, and 0"),
        ("UPDATE requests SET ever_committed = 0 WHERE id = 'r1'", "request r1: the table was edited: ever_committed is 0"),
        ("UPDATE requests SET release_due = 1 WHERE id = 'r3'", "request r3: the table was edited: release_due is 1"),
        ("DELETE FROM requests WHERE id = 'r2'", "request r2: the table was edited: the row is missing"),
        ("INSERT INTO requests SELECT 9, 'r9', body, 0, status, 0, NULL, 0, NULL, 0, 0, 0, NULL, NULL FROM requests WHERE id = 'r2'", "request r9: the table was edited: no event says that it was received"),
        ("UPDATE models SET digest = 'model-0'", "table models was edited"),
        ("DELETE FROM models WHERE sequence = 2", "table models was edited"),
        ("UPDATE clients SET tombstones = 'none' WHERE id = 'st-vincent'", "table clients was edited"),
        ("UPDATE clients SET departed = 0", "table clients was edited"),
        ("DELETE FROM owed", "table owed was edited"),
    ],
)  # fmt: skip
def test_an_edited_table_is_found(path: Path, statement: str, found: str) -> None:
    tamper(path, statement)
    assert problem(path).startswith(found)


@pytest.mark.parametrize("value", ["'many'", "'3 of'", "''", "'3'"])
def test_a_head_that_is_none_is_found_and_stops_writing(path: Path, value: str) -> None:
    tamper(path, f"UPDATE meta SET value = {value} WHERE name = 'head'")
    assert problem(path).endswith("table meta does not hold the head of the events")
    ledger = Ledger(path)
    with pytest.raises(FedUnlearnError, match="table meta does not hold the head of the events"):
        ledger.receive(ForgetRequest.for_class(1))
    assert len(ledger.entries()) == 3
    ledger.close()


def test_facts_that_are_none_are_found_even_under_a_good_seal(path: Path) -> None:
    ((previous,),) = rows(path, "SELECT digest FROM events WHERE sequence = 21")
    digest = sealed(path, str(previous), [22, 5.0, None, "note", 0, "[]"])
    values = f"time = 5.0, name = 'note', facts = '[]', digest = '{digest}'"
    tamper(path, f"UPDATE events SET {values} WHERE sequence = 22")
    assert problem(path) == "event 22: its facts are no JSON object"


def test_a_reason_may_be_erased_and_is_then_gone_from_the_file(path: Path) -> None:
    ledger = Ledger(path)
    ledger.advance("r2", Status.WAITING, attempt=0, reason="ward 9 is closed for the summer")
    ledger.erase_reason("r2")
    assert ledger.entry("r2").reason is None and ledger.verify().problem is None
    ledger._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    ledger.close()
    assert all(b"closed for the summer" not in file.read_bytes() for file in path.parent.iterdir())


def test_who_has_the_key_and_rewrites_everything_is_found_by_a_head_that_was_kept(path: Path) -> None:
    ledger = Ledger(path)
    kept = ledger.verify().head
    ledger.close()
    events = rows(path, f"SELECT {COLUMNS} FROM events WHERE sequence < 22 ORDER BY sequence")
    previous, statements = "0" * 64, ["DELETE FROM events"]
    for columns in events:
        edited = list(columns)
        edited[1] = 5.0
        digest = sealed(path, previous, edited)
        values = ", ".join("NULL" if value is None else repr(value) for value in [*edited, previous, digest])
        statements.append(f"INSERT INTO events VALUES ({values})")
        previous = digest
    statements.append(f"UPDATE meta SET value = '21 {previous}' WHERE name = 'head'")
    statements.append("UPDATE clients SET departed = 0 WHERE departed")
    tamper(path, *statements)
    assert problem(path).startswith("the seal in table meta does not fit its head")
    tamper(path, "DELETE FROM seals", "DELETE FROM meta WHERE name = 'seal'")
    connection = sqlite3.connect(path)
    seal_everything(connection, read_key(path.with_suffix(".key")).raw)
    connection.commit()
    connection.close()
    ledger = Ledger(path)
    verification = ledger.verify()
    assert verification.problem is None and verification.head != kept
    assert str(ledger.verify(kept).problem).startswith(f"no event has the digest {kept[:16]}")
    assert ledger.verify(verification.head).problem is None
    ledger.close()
