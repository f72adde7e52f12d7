import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from edit_kinds import EDITS, UNSEEN
from ledger_edits import Edit, put_back, sql, write_ledger

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from tests.trials.tamper import found


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("tamper") / "base"
    return folder, write_ledger(folder / "ledger.db")


def test_without_an_edit_nothing_is_found(base: tuple[Path, str], tmp_path: Path) -> None:
    assert found(Edit("nothing", lambda path: None, by_head=True), base[0], tmp_path / "copy", base[1]) is None


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.name)
def test_an_edit_is_found(base: tuple[Path, str], tmp_path: Path, edit: Edit) -> None:
    assert found(edit, base[0], tmp_path / "copy", base[1])


@pytest.mark.parametrize("edit", UNSEEN, ids=lambda edit: edit.name)
def test_what_the_threat_model_says_that_the_key_allows(base: tuple[Path, str], tmp_path: Path, edit: Edit) -> None:
    assert found(edit, base[0], tmp_path / "copy", base[1]) is None


@pytest.fixture
def path(base: tuple[Path, str], tmp_path: Path) -> Path:
    put = tmp_path / "ledger.db"
    for name in ("ledger.db", "ledger.key"):
        (tmp_path / name).write_bytes((base[0] / name).read_bytes())
    return put


def problems(path: Path) -> tuple[str, ...]:
    with closing(Ledger(path)) as ledger:
        return ledger.verify().problems


def test_each_row_and_column_is_named(path: Path) -> None:
    sql(
        "UPDATE requests SET reason = 'x', received = 0 WHERE id = 'r2'",
        "DELETE FROM state WHERE name = 'initial'",
        "INSERT INTO clients (id) VALUES ('\x1b[31mevil')",
    )(path)
    assert problems(path) == (
        "table requests was edited: row 2: received, reason",
        "table clients was edited: row \\x1b[31mevil was added",
        "table state was edited: row initial is missing",
    )


def test_an_edit_stays_visible_however_much_the_server_writes_since(path: Path) -> None:
    sql("UPDATE requests SET received = received - 1, reason = 'forged' WHERE id = 'r2'")(path)
    with closing(Ledger(path)) as ledger:
        ledger.approve("r2")
        ledger.advance("r2", Status.WAITING, attempt=0, reason="offline")
        ledger.receive(ForgetRequest.for_class(7))
        assert ledger.verify().problem == "table requests was edited: row 2: received, reason"


def test_a_row_that_was_put_in_stays_visible(path: Path) -> None:
    sql("INSERT INTO state VALUES ('attempt', '0')")(path)
    with closing(Ledger(path)) as ledger:
        ledger.set_state("attempt", 1)
        assert ledger.verify().problem == "table state was edited: row attempt was added"
        ledger.set_state("attempt", None)
        assert ledger.verify().problem == "table state was edited: an older state of its rows was put back"


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (
            "CREATE TRIGGER evil AFTER INSERT ON state BEGIN DELETE FROM owed; END",
            "trigger evil is no part of a ledger",
        ),
        ("DROP TRIGGER events_are_not_removed", "trigger events_are_not_removed is missing"),
        ("UPDATE meta SET value = '{}' WHERE name = 'seal'", "the seal in table meta does not fit its head"),
    ],
)
def test_nothing_is_written_where_it_would_seal_what_somebody_did(path: Path, statement: str, said: str) -> None:
    with closing(Ledger(path)) as ledger:  # a server that runs meanwhile
        ledger.set_state("a", 1)
        sql(statement)(path)
        with pytest.raises(FedUnlearnError, match=said):
            ledger.set_state("a", 2)
        assert ledger.state("a") == 1
        assert any(said in problem for problem in ledger.verify().problems)


def test_what_is_taken_back_is_not_sealed(path: Path) -> None:
    with closing(Ledger(path)) as ledger:
        with pytest.raises(ZeroDivisionError), ledger.transaction():
            ledger.set_state("served", 1)
            raise ZeroDivisionError
        with ledger.transaction():
            ledger.set_state("outer", 1)
            with pytest.raises(ZeroDivisionError), ledger.transaction():
                ledger.set_state("inner", 1)
                raise ZeroDivisionError
        assert (ledger.state("outer"), ledger.state("inner")) == (1, None)
        assert ledger.verify().problems == ()


def test_two_servers_seal_one_file(path: Path) -> None:
    with closing(Ledger(path)) as first, closing(Ledger(path)) as second:
        for number in range(5):
            first.set_state("shared", number)
            second.set_state("shared", -number)
            second.note("turn", {"number": number})
            assert first.verify().problems == second.verify().problems == ()


def test_an_older_file_is_intact_but_lacks_the_head(base: tuple[Path, str], path: Path) -> None:
    (path.parent / "older").mkdir()
    (path.parent / "older" / "ledger.db").write_bytes((base[0] / "older" / "ledger.db").read_bytes())
    put_back(path)
    with closing(Ledger(path)) as ledger:
        assert ledger.verify().problems == ()
        assert str(ledger.verify(base[1]).problem).startswith(f"no event has the digest {base[1][:16]}")


def test_the_key_is_in_no_file_of_the_database(path: Path) -> None:
    key = json.loads(path.with_suffix(".key").read_text())
    with closing(Ledger(path)) as ledger:
        ledger.set_state("a", 1)
        content = b"".join(path.with_name(f"ledger.db{end}").read_bytes() for end in ("", "-wal"))
    for secret in (key["key"], key["references"]):
        assert secret.encode() not in content and bytes.fromhex(secret) not in content


def test_a_key_that_others_made_is_not_taken_for_a_ledger_of_its_own(tmp_path: Path) -> None:
    Ledger(tmp_path / "a.db").close()
    Ledger(tmp_path / "b.db").close()
    with closing(Ledger(tmp_path / "a.db", key=tmp_path / "b.key")) as ledger:
        assert any("the key is another ledger's" in problem for problem in ledger.verify().problems)
        with pytest.raises(FedUnlearnError, match="the key is another ledger's"):
            ledger.receive(ForgetRequest.for_class(1))


def test_a_backup_is_a_ledger_of_its_own_under_the_same_key(path: Path) -> None:
    with closing(Ledger(path)) as ledger:
        with ledger.transaction():
            ledger.set_state("in the log", "x" * 50_000)
        copy = ledger.backup(path.with_name("copy.db"))
        head = ledger.verify().head
        with pytest.raises(FedUnlearnError, match="the file exists; name a new one"):
            ledger.backup(copy)
    with closing(Ledger(copy, create=False, key=path.with_suffix(".key"))) as ledger:
        assert ledger.verify(head).problems == () and ledger.state("in the log") == "x" * 50_000


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_files_are_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with closing(Ledger(tmp_path / "new" / "run" / "ledger.db")) as ledger:
            ledger.receive(ForgetRequest.for_class(1))
            modes = {file.name: file.stat().st_mode & 0o777 for file in ledger.path.parent.iterdir()}
            backup = ledger.backup(tmp_path / "new" / "copy.db").stat().st_mode & 0o777
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.key"), 0o600)
    assert backup == 0o600
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("new", "new/run")] == [0o700, 0o700]


def test_a_damaged_file_is_a_finding_and_no_error(path: Path) -> None:
    with closing(Ledger(path)) as ledger:
        ledger._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        content = bytearray(path.read_bytes())
        for at in range(5 * 4096, len(content), 4096):
            content[at : at + 64] = b"\xff" * 64
        path.write_bytes(bytes(content))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",)
    with closing(Ledger(path)) as ledger:
        assert str(ledger.verify().problem).startswith("the file is damaged: ")


def test_a_key_that_cannot_be_written_leaves_no_ledger(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for place in ("nowhere/x.key", "folder", "x" * 300, "a\0b"):
        with pytest.raises(FedUnlearnError, match="ledger's key"):
            Ledger(tmp_path / "new" / "ledger.db", key=tmp_path / place)
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]
