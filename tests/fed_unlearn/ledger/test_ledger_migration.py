import json
import sqlite3
import threading
from pathlib import Path
from unittest import mock

import pytest

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest

# What the library of version 1 wrote, statement by statement.
VERSION_1 = """
BEGIN TRANSACTION;
CREATE TABLE events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, request_id TEXT,
    name TEXT NOT NULL, attempt INTEGER NOT NULL, facts TEXT NOT NULL
);
INSERT INTO events VALUES(1,1700000000.5,NULL,'model-accepted',0,'{"after": "initial", "digest": "model-0"}');
INSERT INTO events VALUES(2,1700000000.75,'r1','received',0,'{}');
INSERT INTO events VALUES(3,1700000001.0,'mine','received',0,'{}');
INSERT INTO events VALUES(4,1700000001.25,'r3','received',0,'{}');
INSERT INTO events VALUES(5,1700000001.5,'r4','received',0,'{}');
INSERT INTO events VALUES(6,1700000001.75,'r1','unlearning',1,'{}');
INSERT INTO events VALUES(7,1700000002.0,'r1','auditing',1,'{}');
INSERT INTO events VALUES(8,1700000002.25,'r1','committing',1,'{"digest": "model-1"}');
INSERT INTO events VALUES(9,1700000002.5,NULL,'tombstones-confirmed',0,'{"client": "st-vincent", "digest": "old"}');
INSERT INTO events VALUES(10,1700000002.75,NULL,'tombstones-confirmed',0,'{"client": "charite", "digest": "digest"}');
INSERT INTO events VALUES(11,1700000003.0,NULL,'tombstones-confirmed',0,'{"client": "st-vincent", "digest": "new"}');
INSERT INTO events VALUES(12,1700000003.25,'r1','committed',1,'{}');
INSERT INTO events VALUES(13,1700000003.75,NULL,'model-accepted',0,'{"after": "r1", "digest": "model-1"}');
INSERT INTO events VALUES(14,1700000004.0,'mine','unlearning',1,'{}');
INSERT INTO events VALUES(15,1700000004.25,'mine','rolled-back',1,'{"reason": "scan-17 is still right"}');
INSERT INTO events VALUES(16,1700000004.5,'mine','unlearning',2,'{}');
INSERT INTO events VALUES(17,1700000004.75,'r3','rejected',0,'{"reason": "st-vincent is unknown"}');
INSERT INTO events VALUES(18,1700000005.0,NULL,'training-refused',0,'{"experience": "train:2", "reason": "retained accuracy fell"}');
CREATE TABLE models (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, digest TEXT NOT NULL, accepted_after TEXT NOT NULL
);
INSERT INTO models VALUES(1,1700000000.25,'model-0','initial');
INSERT INTO models VALUES(2,1700000003.5,'model-1','r1');
CREATE TABLE requests (
    id TEXT PRIMARY KEY, sequence INTEGER UNIQUE NOT NULL, body TEXT NOT NULL,
    status TEXT NOT NULL, attempt INTEGER NOT NULL, reason TEXT
);
INSERT INTO requests VALUES('r1',1,'{"id": "r1", "method": null, "parameters": {"epochs": 2}, "scope": "class", "target": {"classes": [3]}}','committed',1,NULL);
INSERT INTO requests VALUES('mine',2,'{"id": "mine", "method": null, "parameters": {}, "scope": "sample", "target": {"client": "st-vincent", "sample_ids": ["scan-17"]}}','unlearning',2,NULL);
INSERT INTO requests VALUES('r3',3,'{"id": "r3", "method": null, "parameters": {}, "scope": "client", "target": {"client": "st-vincent"}}','rejected',0,'st-vincent is unknown');
INSERT INTO requests VALUES('r4',4,'{"id": "r4", "method": null, "parameters": {}, "scope": "class", "target": {"classes": [5]}}','received',0,NULL);
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('models',2);
INSERT INTO sqlite_sequence VALUES('events',18);
COMMIT;
PRAGMA user_version=1;
PRAGMA journal_mode=WAL;
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    connection = sqlite3.connect(path)
    connection.executescript(VERSION_1)
    connection.close()
    return path


def dump(path: Path) -> tuple[int, list[str]]:
    connection = sqlite3.connect(path)
    version, lines = connection.execute("PRAGMA user_version").fetchone()[0], list(connection.iterdump())
    connection.close()
    return version, lines


def test_nothing_is_lost(old: Path) -> None:
    ledger = Ledger(old)
    assert [(entry.id, entry.status, entry.attempt, entry.reason) for entry in ledger.entries()] == [
        ("r1", "committed", 1, None),
        ("mine", "unlearning", 2, None),
        ("r3", "rejected", 0, "st-vincent is unknown"),
        ("r4", "received", 0, None),
    ]
    assert [entry.request for entry in ledger.entries()] == [
        ForgetRequest.for_class(3, id="r1", epochs=2),
        ForgetRequest.for_samples("st-vincent", ["scan-17"], id="mine"),
        ForgetRequest.for_client("st-vincent", id="r3"),
        ForgetRequest.for_class(5, id="r4"),
    ]
    assert [entry.received for entry in ledger.entries()] == [
        1700000000.75,
        1700000001.0,
        1700000001.25,
        1700000001.5,
    ]
    assert [entry.ever_committed for entry in ledger.entries()] == [True, False, False, False]
    assert ledger.open_ids() == ["mine", "r4"] and ledger.forgotten_classes() == {3}
    assert (ledger.served_model(), ledger.committing_model("r1")) == ("model-1", "model-1")
    assert ledger.confirmed_tombstones() == {"st-vincent": "new", "charite": "digest"}
    assert ledger.known_clients() == ["charite", "st-vincent"]
    ledger.close()


def test_the_record_is_sealed_and_names_nobody(old: Path) -> None:
    connection = sqlite3.connect(old)
    before = connection.execute("SELECT sequence, time, request_id, name, attempt FROM events").fetchall()
    connection.close()
    ledger = Ledger(old)
    events = ledger.events()
    assert [(item.sequence, item.time, item.request_id, item.name, item.attempt) for item in events] == before
    assert (ledger.verify().events, ledger.verify().problem) == (18, None)
    confirmed = [dict(event.facts) for event in events if event.name == "tombstones-confirmed"]
    assert confirmed == [
        {"client": ledger.client_reference("st-vincent"), "digest": "old"},
        {"client": ledger.client_reference("charite"), "digest": "digest"},
        {"client": ledger.client_reference("st-vincent"), "digest": "new"},
    ]
    assert dict(events[17].facts) == {"experience": "train:2"}
    text = json.dumps([dict(event.facts) for event in events])
    assert not any(word in text for word in ("st-vincent", "charite", "scan-17", "reason"))
    ledger.close()
    content = b"".join(path.read_bytes() for path in old.parent.iterdir())
    assert b"scan-17 is still right" not in content and b"retained accuracy fell" not in content


def test_the_new_ledger_goes_on_where_the_old_one_stopped(old: Path) -> None:
    ledger = Ledger(old)
    assert ledger.receive(ForgetRequest.for_samples("st-vincent", ["scan-17"], id="mine", priority=3)) == "mine"
    assert ledger.receive(ForgetRequest.for_class(6)) == "r5"
    ledger.advance("mine", Status.AUDITING, attempt=2)
    ledger.accept_model("model-2", "train:2")
    assert ledger.verify().problem is None
    ledger.close()
    migrated = dump(old)
    Ledger(old).close()
    assert dump(old) == migrated and migrated[0] == 3


def test_a_migration_that_fails_changes_nothing(old: Path) -> None:
    connection = sqlite3.connect(old)
    connection.execute("UPDATE events SET facts = '{' WHERE sequence = 15")
    connection.commit()
    connection.close()
    before = dump(old)
    with pytest.raises(FedUnlearnError, match="not a ledger: a row of an older version cannot be read"):
        Ledger(old)
    assert dump(old) == before


def test_many_who_open_it_at_once_migrate_it_once(old: Path) -> None:
    barrier, found = threading.Barrier(8), list[object]()

    def open_it() -> None:
        barrier.wait()
        ledger = Ledger(old)
        found.append((ledger.verify().problem, len(ledger.events()), ledger.client_reference("x")))
        ledger.close()

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1


def test_many_who_make_a_new_ledger_at_once_share_it(tmp_path: Path) -> None:
    barrier, ids = threading.Barrier(8), list[str]()

    def open_it() -> None:
        barrier.wait()
        ledger = Ledger(tmp_path / "new" / "ledger.db")
        ids.extend(ledger.receive(ForgetRequest.for_class(1)) for _ in range(5))
        ledger.close()

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ledger = Ledger(tmp_path / "new" / "ledger.db")
    assert sorted(ids) == sorted(f"r{number}" for number in range(1, 41))
    assert len(ledger.entries()) == 40 and ledger.verify().problem is None
    ledger.close()


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """A ledger as the library of version 2 wrote it, readable by everybody and with its secret inside."""
    path = tmp_path / "ledger.db"
    connection = sqlite3.connect(path)
    connection.executescript(Path(__file__).with_name("version_2.sql").read_text())
    connection.close()
    path.chmod(0o644)
    return path


SECOND_HEAD = "e8d56b515566ef32d04549f4fc99a66118f6d45fb58aff033ebb61f77ce8a82a"


def test_version_2_gets_a_key_and_an_identity_and_keeps_its_events(second: Path) -> None:
    ledger = Ledger(second)
    assert (ledger.verify().problems, ledger.verify().head) == ((), SECOND_HEAD)
    assert len(ledger.identity) == 36
    assert ledger.client_reference("charite") == "bdb96cd685a31292"
    assert (ledger.served_model(), ledger.state("initial")) == ("model-1", "model-0")
    assert ledger.entry("r1").outcome == {"forget_accuracy": 0.01} and ledger.entry("r1").owed == ("charite",)
    ledger.bind_client("st-vincent", "ab" * 32)
    assert (ledger.client_key("st-vincent"), ledger.departed()) == ("ab" * 32, {"charite"})
    assert ledger.confirmed_tombstones() == {"st-vincent": "tombstones"}
    again = Ledger(second)
    assert again.identity == ledger.identity and again.verify(SECOND_HEAD).problem is None
    again.close()
    assert b"5e" * 32 not in b"".join(second.with_name(f"ledger.db{end}").read_bytes() for end in ("", "-wal"))
    modes = {file.name: oct(file.stat().st_mode & 0o777) for file in second.parent.iterdir()}
    ledger.close()
    assert set(modes.values()) == {"0o600"} and set(modes) == {
        "ledger.db",
        "ledger.db-wal",
        "ledger.db-shm",
        "ledger.key",
    }


def test_an_event_of_version_2_that_was_edited_is_found(second: Path) -> None:
    Ledger(second).close()
    connection = sqlite3.connect(second)
    connection.execute("DROP TRIGGER events_are_not_changed")
    connection.execute("UPDATE events SET time = time - 1 WHERE sequence = 4")
    connection.commit()
    connection.close()
    ledger = Ledger(second)
    assert ledger.verify().problem == "event 4: its columns are not those that its digest was made of"
    ledger.close()


def test_what_was_wrong_before_the_migration_stays_known(second: Path) -> None:
    connection = sqlite3.connect(second)
    connection.execute("UPDATE requests SET attempt = 7 WHERE id = 'r1'")
    connection.execute("UPDATE clients SET departed = 0")
    connection.commit()
    connection.close()
    ledger = Ledger(second)
    assert (
        ledger.verify()
        .problems[-1]
        .startswith(
            "before this version sealed the ledger: request r1: the table was edited: it is committed in attempt 7"
        )
    )
    ledger.close()


def test_an_old_file_in_the_place_of_a_sealed_one_is_refused(second: Path) -> None:
    old = second.read_bytes()
    Ledger(second).close()
    for end in ("-wal", "-shm"):
        second.with_name(f"ledger.db{end}").unlink(missing_ok=True)
    second.write_bytes(old)
    with pytest.raises(FedUnlearnError, match="an old file was put in its place"):
        Ledger(second)
    assert dump(second)[0] == 2


def test_a_migration_that_was_cut_off_is_made_up_for(second: Path) -> None:
    stopped = mock.patch("fed_unlearn.ledger.migration.seal_everything", side_effect=KeyboardInterrupt)
    with stopped, pytest.raises(KeyboardInterrupt):
        Ledger(second)
    assert dump(second)[0] == 2 and second.with_suffix(".key").exists()
    ledger = Ledger(second)
    assert ledger.verify(SECOND_HEAD).problems == ()
    ledger.close()
