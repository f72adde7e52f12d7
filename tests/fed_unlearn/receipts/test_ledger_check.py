"""A receipt beside a ledger: the right one is accepted, and every other one refused, saying why."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from ledger_edits import Change, cut, events, put_back, sql, written_anew
from receipt_ledgers import MODELS, commit, opened, relapse, write

from fed_unlearn.errors import FedUnlearnError, StorageError
from fed_unlearn.ledger.lifecycle import FINAL, Status
from fed_unlearn.ledger.verification import OTHER_KEY
from fed_unlearn.receipts import LedgerCheck, Receipt, check_in_ledger, receipt_of, sign, verify
from fed_unlearn.requests import ForgetRequest


@pytest.fixture
def ledger_file(tmp_path: Path) -> Path:
    return write(tmp_path / "ledger.db")


def receipt(path: Path, request_id: str = "r1", number: int | None = None) -> Receipt:
    with opened(path) as ledger:
        return receipt_of(ledger, request_id, number=number)


def both(said: Receipt, path: Path) -> tuple[LedgerCheck, LedgerCheck]:
    """What is found without the ledger's key, and with it."""
    return check_in_ledger(said, path), check_in_ledger(said, path, path.with_suffix(".key"))


@pytest.mark.parametrize("request_id", ["r1", "r2", "r3", "r4", "r5"])
def test_a_receipt_fits_its_ledger(ledger_file: Path, request_id: str) -> None:
    signed = sign(receipt(ledger_file, request_id), key := Ed25519PrivateKey.generate())
    without, with_key = both(verify(signed.content, key.public_key()).receipt, ledger_file)
    assert without.problems == with_key.problems == ()
    assert len(without.unchecked) == 1
    assert "--ledger-key" in without.unchecked[0]
    assert with_key.unchecked == ()
    assert any("every event and every row" in checked for checked in with_key.checked)


def test_a_receipt_fits_its_ledger_while_and_after_more_is_written(ledger_file: Path) -> None:
    said = receipt(ledger_file)
    with opened(ledger_file) as ledger:
        commit(ledger, ["r6"], MODELS[2])
        assert [check.problems for check in both(said, ledger_file)] == [(), ()]
        ledger.note("round", {"number": 1})
        assert [check.problems for check in both(said, ledger_file)] == [(), ()]
        ledger.backup(ledger_file.with_name("copy.db"))
    assert [check.problems for check in both(said, ledger_file)] == [(), ()]
    assert check_in_ledger(said, ledger_file.with_name("copy.db"), ledger_file.with_suffix(".key")).fits


def test_a_ledger_that_was_cut_short_is_refused_wherever_it_was_cut(ledger_file: Path) -> None:
    said, whole = receipt(ledger_file), ledger_file.read_bytes()
    for size in (*range(1024, len(whole), 1024), len(whole) - 1):
        ledger_file.write_bytes(whole[:size])
        try:
            assert not check_in_ledger(said, ledger_file).fits, size
        except FedUnlearnError as error:
            assert "cannot be read" in str(error) or "not a ledger" in str(error), size
    ledger_file.write_bytes(whole)
    assert check_in_ledger(said, ledger_file).fits


def test_pages_that_were_damaged_are_told_without_what_stands_in_them(ledger_file: Path) -> None:
    said, whole = receipt(ledger_file), ledger_file.read_bytes()
    for at in range(4096, len(whole), 4096):  # the head of each page but the first
        ledger_file.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            assert not check_in_ledger(said, ledger_file).fits, at
        except FedUnlearnError as error:
            assert "cannot be read" in str(error), at
    place = whole.index(b'"boundary-shrink"')
    ledger_file.write_bytes(whole[:place] + b"\xff" + whole[place + 1 :])
    try:
        told = "; ".join(check_in_ledger(said, ledger_file, ledger_file.with_suffix(".key")).problems)
    except FedUnlearnError as error:
        told = str(error)
    assert "UTF-8" in told and "boundary" not in told


def test_later_ends_are_told_and_earlier_receipts_still_fit(ledger_file: Path) -> None:
    relapse(ledger_file)
    for number in (1, 2):
        without, with_key = both(receipt(ledger_file, number=number), ledger_file)
        assert without.problems == with_key.problems == ()
    later = check_in_ledger(receipt(ledger_file, number=1), ledger_file)
    assert [told.split(": ")[1] for told in later.since] == [
        "the request is relapsed",
        "the request is reopened",
        "the request is committed",
    ]
    assert any("last end alone" in told for told in later.unchecked)
    assert check_in_ledger(receipt(ledger_file, number=2), ledger_file).since == ()


def test_a_name_takes_the_key(ledger_file: Path) -> None:
    with opened(ledger_file) as ledger:
        ledger.receive(ForgetRequest.for_class(2, id="of-st-vincent"))
        ledger.withdraw("of-st-vincent")
        said = receipt_of(ledger, "of-st-vincent")
    without, with_key = both(said, ledger_file)
    assert without.fits and with_key.fits
    assert (len(without.unchecked), len(with_key.unchecked)) == (2, 0)
    lies = said.model_copy(update={"request": "0" * 16})
    assert any("is of request" in problem for problem in both(lies, ledger_file)[1].problems)


def files_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


def test_a_ledger_that_nobody_has_open_is_not_touched(ledger_file: Path) -> None:
    said = receipt(ledger_file)
    before = files_of(ledger_file.parent)
    both(said, ledger_file)
    assert files_of(ledger_file.parent) == before


def test_a_ledger_in_a_folder_that_cannot_be_written_is_read(ledger_file: Path) -> None:
    said = receipt(ledger_file)
    ledger_file.parent.chmod(0o500)
    ledger_file.chmod(0o400)
    try:
        assert check_in_ledger(said, ledger_file).fits
    finally:
        ledger_file.parent.chmod(0o700)


WRITING = """
import sys
from fed_unlearn.ledger import Ledger
ledger = Ledger("ledger.db")
print("ready", flush=True)
number = 0
while True:
    for _ in range(50):
        ledger.note("round", {"number": number, "filling": "x" * 500})
        number += 1
    if number % 500 == 0:
        ledger.close()
        ledger = Ledger("ledger.db")
"""


@pytest.mark.slow
def test_a_ledger_that_is_written_all_the_time_is_read_in_one_state(ledger_file: Path) -> None:
    said = receipt(ledger_file)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITING], cwd=ledger_file.parent, stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
        for _ in range(30):
            for key in (None, ledger_file.with_suffix(".key")):
                try:
                    assert check_in_ledger(said, ledger_file, key).problems == ()
                except StorageError as error:
                    assert "was written while it was read; try again" in str(error)
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.wait()
    assert check_in_ledger(said, ledger_file, ledger_file.with_suffix(".key")).fits


def test_receipts_of_an_older_ledger_that_was_migrated(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((Path(__file__).parents[1] / "ledger" / "version_2.sql").read_text())
    with opened(path) as ledger:
        ended = [entry for entry in ledger.entries() if ledger.endings(entry.id)]
        said = [receipt_of(ledger, entry.id) for entry in ended]
    assert {each.status for each in said} >= {"committed"}
    for each in said:
        assert [check.problems for check in both(each, path)] == [(), ()]


def test_flipped_bytes_of_a_ledger_never_end_in_another_error(ledger_file: Path, tmp_path: Path) -> None:
    said, content, broken = receipt(ledger_file), ledger_file.read_bytes(), tmp_path / "broken.db"
    numbers, told = random.Random(0), set[str]()
    for _ in range(150):
        changed = bytearray(content)
        for _ in range(numbers.choice([1, 4, 64])):
            changed[numbers.randrange(len(content))] ^= 1 << numbers.randrange(8)
        broken.write_bytes(changed)
        for key in (None, ledger_file.with_suffix(".key")):
            try:
                found = check_in_ledger(said, broken, key)
            except FedUnlearnError as error:
                told.update(error.problems)
            else:
                told.update(found.problems)
    assert len(told) > 20
    assert all(problem.isprintable() for problem in told)


# ------------------------------------------------------------------ other ledgers


def test_another_ledger_is_refused(ledger_file: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = write(tmp_path / "other" / "ledger.db")
    for check in both(receipt(ledger_file), other):
        assert check.problems[0].startswith("another ledger: the receipt is of ledger ")


def test_another_ledger_under_the_same_identity_is_refused(ledger_file: Path, tmp_path: Path) -> None:
    said = receipt(ledger_file)
    (tmp_path / "other").mkdir()
    other = write(tmp_path / "other" / "ledger.db")
    sql(f"UPDATE meta SET value = '{said.ledger}' WHERE name = 'identity'")(other)
    without, with_key = both(said, other)
    assert any("is another one: its digest is" in problem for problem in without.problems)
    assert any("table meta was edited" in problem for problem in with_key.problems)


def test_an_older_copy_is_refused(ledger_file: Path) -> None:
    copy = ledger_file.with_name("older")
    copy.mkdir()
    with opened(ledger_file) as ledger:
        ledger.backup(copy / ledger_file.name)
        commit(ledger, ["r6"], MODELS[2])
        said = receipt_of(ledger, "r6")
    put_back(ledger_file)
    for check in both(said, ledger_file):
        assert any("an older copy of the ledger" in problem for problem in check.problems)


def test_a_copy_from_between_end_and_issue_is_refused(ledger_file: Path) -> None:
    """The end is there, and the head at which the receipt was issued is not."""
    copy = ledger_file.with_name("older")
    copy.mkdir()
    with opened(ledger_file) as ledger:
        ledger.backup(copy / ledger_file.name)
        ledger.note("round", {"number": 1})
        said = receipt_of(ledger, "r1")
    put_back(ledger_file)
    assert any("older copy" in problem for problem in check_in_ledger(said, ledger_file).problems)


ENDED = "(SELECT MAX(sequence) FROM events WHERE request_id = 'r1')"
RECEIVED = "(SELECT MIN(sequence) FROM events WHERE request_id = 'r1')"
SEEN_WITHOUT_KEY: dict[str, tuple[Change, str]] = {
    "the end has another digest": (
        events(f"UPDATE events SET digest = '{'ab' * 32}' WHERE sequence = {ENDED}"),
        "digest of the event before it|is another one",
    ),
    "the end is another step": (events(f"UPDATE events SET name = 'round' WHERE sequence = {ENDED}"), "is not the end"),
    "the end is another status": (
        events(f"UPDATE events SET name = 'failed' WHERE sequence = {ENDED}"),
        "differ in the status: 'committed' and 'failed'",
    ),
    "the end is of another request": (
        events(f"UPDATE events SET request_id = 'r2' WHERE sequence = {ENDED}"),
        "is of request r2, not of r1",
    ),
    "the end is of no request": (
        events(f"UPDATE events SET request_id = NULL WHERE sequence = {ENDED}"),
        "is not the end of a request",
    ),
    "the end was at another time": (
        events(f"UPDATE events SET time = time + 60 WHERE sequence = {ENDED}"),
        "the time of the end",
    ),
    "the attempts are others": (
        events(f"UPDATE events SET attempt = 7 WHERE sequence = {ENDED}"),
        "the number of attempts",
    ),
    "the request's digest is another": (
        events(f"""UPDATE events SET facts = '{{"request":"{"0" * 16}"}}' WHERE sequence = {RECEIVED}"""),
        "the reference of the request",
    ),
    "the accepted model is another": (
        events(f"UPDATE events SET facts = replace(facts, '{MODELS[1]}', '{MODELS[2]}')"),
        "the digests of the models",
    ),
    "a second end before it": (
        events(f"UPDATE events SET name = 'failed' WHERE sequence = {ENDED} - 6"),
        "the number of the receipt|the receipt that it supersedes",
    ),
    "the first event is gone": (events("DELETE FROM events WHERE sequence = 1"), "event 1 is missing"),
    "the end is gone": (events(f"DELETE FROM events WHERE sequence = {ENDED}"), "is missing"),
    "the last events are gone": (cut(2, with_head=False), "is missing"),
    "the last events and the head are gone": (cut(2, with_head=True), "an older copy"),
    "all was written anew without a key": (
        written_anew(f"UPDATE events SET time = time + 1 WHERE sequence = {RECEIVED}"),
        "is another one: its digest is",
    ),
    "all was written anew with the key": (
        written_anew(f"UPDATE events SET time = time + 1 WHERE sequence = {RECEIVED}", with_key=True),
        "is another one: its digest is",
    ),
    "the row has other figures": (
        sql("UPDATE requests SET outcome = replace(outcome, '0.98', '0.99')"),
        "differ in the figures",
    ),
    "the row asks for another class": (
        sql("UPDATE requests SET body = replace(body, '[3, 1]', '[2, 1]')"),
        "the classes",
    ),
    "the outcome has a goal": (
        sql(
            "UPDATE requests SET body = (SELECT body FROM requests WHERE id = 'r3'),"
            " outcome = json_set(outcome, '$.goal', 'relabel') WHERE id = 'r1'"
        ),
        "the goal: None and 'relabel'",
    ),
    "the row is gone": (sql("DELETE FROM requests WHERE id = 'r1'"), "row is missing"),
    "facts are no JSON": (
        events(f"UPDATE events SET facts = 'no' WHERE sequence = {ENDED}"),
        "was changed since it was written",
    ),
    "the head is no head": (sql("UPDATE meta SET value = 'no' WHERE name = 'head'"), "cannot be read"),
    "a table is a view": (
        sql("DROP TABLE owed", "CREATE VIEW owed AS SELECT 1 AS request_id, 2 AS client"),
        "the schema was changed",
    ),
}


@pytest.mark.parametrize("edit", SEEN_WITHOUT_KEY)
def test_an_edit_of_what_the_receipt_says_is_found_without_the_key(ledger_file: Path, edit: str) -> None:
    said = receipt(ledger_file)
    change, expected = SEEN_WITHOUT_KEY[edit]
    change(ledger_file)
    try:
        problems = check_in_ledger(said, ledger_file).problems
    except FedUnlearnError as error:
        problems = error.problems
    assert any(part in problem for problem in problems for part in expected.split("|")), problems


SEEN_WITH_KEY: dict[str, Change] = {
    "an event of another request": events("UPDATE events SET time = time + 1 WHERE request_id = 'r4'"),
    "the model of another commit": sql(f"UPDATE models SET digest = '{MODELS[2]}' WHERE sequence = 1"),
    "a client that has left": sql("UPDATE clients SET departed = 1 WHERE id = 'charite'"),
    "the reason of another request": sql("UPDATE requests SET reason = 'none' WHERE id = 'r3'"),
}


@pytest.mark.parametrize("edit", SEEN_WITH_KEY)
def test_other_edits_are_found_with_the_key(ledger_file: Path, edit: str) -> None:
    said = receipt(ledger_file)
    SEEN_WITH_KEY[edit](ledger_file)
    without, with_key = both(said, ledger_file)
    assert with_key.problems
    assert without.fits and without.unchecked


def test_another_key_of_the_ledger_is_refused(ledger_file: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = write(tmp_path / "other" / "ledger.db")
    found = check_in_ledger(receipt(ledger_file), ledger_file, other.with_suffix(".key"))
    assert found.problems == (OTHER_KEY,)


def test_another_key_says_nothing_of_names(ledger_file: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = write(tmp_path / "other" / "ledger.db")
    with opened(ledger_file) as ledger:
        ledger.receive(ForgetRequest.for_class(2, id="mail-of-st-vincent"))
        ledger.withdraw("mail-of-st-vincent")
    said = receipt(ledger_file, "mail-of-st-vincent")
    assert said.named_by == "reference"
    assert check_in_ledger(said, ledger_file, other.with_suffix(".key")).problems == (OTHER_KEY,)


def test_a_ledger_whose_events_alone_were_made_anew_is_told_of_at_length(ledger_file: Path) -> None:
    """Its rows still fit the key, so the key is not another ledger's."""
    said = receipt(ledger_file)
    written_anew(f"UPDATE events SET time = time + 1 WHERE sequence = {RECEIVED}")(ledger_file)
    found = check_in_ledger(said, ledger_file, ledger_file.with_suffix(".key"))
    assert not found.fits and OTHER_KEY not in found.problems


# ------------------------------------------------------------------ receipts that say something else

LIES: dict[str, Callable[[Receipt], dict[str, object]]] = {
    "status": lambda said: {"status": "failed"},
    "asked": lambda said: {"asked": "2020-01-01T00:00:00.000000Z"},
    "ended": lambda said: {"ended": "2020-01-01T00:00:00.000000Z"},
    "request": lambda said: {"request": "r2"},
    "request_digest": lambda said: {"request_digest": "0" * 16},
    "scope": lambda said: {"scope": "client"},
    "classes": lambda said: {"classes": (3,)},
    "samples": lambda said: {"samples": 3},
    "goal": lambda said: {"goal": "misclassify"},
    "reasons": lambda said: {"reasons": ("other",)},
    "method": lambda said: {"method": "retrain"},
    "attempts": lambda said: {"attempts": 2},
    "evidence": lambda said: {"evidence": "by construction"},
    "witnesses": lambda said: {"witnesses": 30},
    "models": lambda said: {"models": said.models.model_copy(update={"after": "f" * 64})},
    "audits": lambda said: {"audits": said.audits.model_copy(update={"after": said.audits.before})},
    "audits left out": lambda said: {"audits": said.audits.model_copy(update={"after": {}})},
    "number": lambda said: {"number": 2},
    "supersedes": lambda said: {"supersedes": "f" * 64},
    "ledger": lambda said: {"ledger": "00000000-0000-0000-0000-000000000000"},
}


def test_reasons_in_the_words_of_another_version_are_not_checked_and_that_is_said(ledger_file: Path) -> None:
    said = receipt(ledger_file)
    old = said.model_copy(update={"reasons": ("other",), "versions": {**said.versions, "fed-unlearn": "0.0.9"}})
    for check in both(old, ledger_file):
        assert check.fits
        assert any("the reasons: fed-unlearn 0.0.9 issued" in unchecked for unchecked in check.unchecked)
        assert not any("reasons" in checked for checked in check.checked)
    kept = said.model_copy(update={"versions": {**said.versions, "fed-unlearn": "0.0.9"}})
    assert all(any("reasons" in checked for checked in check.checked) for check in both(kept, ledger_file))
    lied = old.model_copy(update={"classes": (3,)})
    assert not any(check.fits for check in both(lied, ledger_file))


@pytest.mark.parametrize("lie", LIES)
def test_what_the_issuer_made_up_is_found(ledger_file: Path, lie: str) -> None:
    said = receipt(ledger_file)
    for check in both(said.model_copy(update=LIES[lie](said)), ledger_file):
        assert not check.fits


@pytest.mark.parametrize("place", ["received", "ended", "head"])
@pytest.mark.parametrize("change", [{"digest": "f" * 64}, {"sequence": 5}, {"sequence": 10**6}])
def test_another_position_is_found(ledger_file: Path, place: str, change: dict[str, object]) -> None:
    said = receipt(ledger_file)
    positions = said.positions.model_copy(update={place: getattr(said.positions, place).model_copy(update=change)})
    assert not check_in_ledger(said.model_copy(update={"positions": positions}), ledger_file).fits


def test_a_receipt_of_one_request_at_the_place_of_another_is_found(ledger_file: Path) -> None:
    first, second = receipt(ledger_file, "r1"), receipt(ledger_file, "r2")
    mixed = first.model_copy(update={"positions": second.positions})
    assert any("is of request r2, not of r1" in problem for problem in check_in_ledger(mixed, ledger_file).problems)


# ------------------------------------------------------------------ files that are no ledgers


def test_what_is_no_ledger_is_refused(ledger_file: Path, tmp_path: Path) -> None:
    said = receipt(ledger_file)
    (tmp_path / "text").write_text("not a database at all, but long enough to have a header" * 10)
    (tmp_path / "empty").touch()
    with closing(sqlite3.connect(tmp_path / "others.db")) as connection:
        connection.execute("CREATE TABLE requests (id)")
        connection.commit()
    shutil.copy(ledger_file, tmp_path / "newer.db")
    with closing(sqlite3.connect(tmp_path / "newer.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    shutil.copy(ledger_file, tmp_path / "older.db")
    with closing(sqlite3.connect(tmp_path / "older.db")) as connection:
        connection.execute("PRAGMA user_version = 2")
    (tmp_path / "cut.db").write_bytes(ledger_file.read_bytes()[:5000])
    expected = {
        "text": "not a database",
        "empty": "not a ledger",
        "others.db": "not a ledger",
        "newer.db": "version 99",
        "older.db": "version 2",
        "cut.db": "cannot be read|malformed",
        "missing": "does not exist",
        ".": "not a file",
    }
    for name, reason in expected.items():
        with pytest.raises(FedUnlearnError, match=reason):
            check_in_ledger(said, tmp_path / name)
    with pytest.raises(FedUnlearnError, match="not a file"):
        check_in_ledger(said, Path("/dev/zero"))
    with pytest.raises(FedUnlearnError, match="key"):
        check_in_ledger(said, ledger_file, tmp_path / "text")


def test_ends_are_the_final_statuses(ledger_file: Path) -> None:
    with opened(ledger_file) as ledger:
        ended = {entry.id: entry.status for entry in ledger.entries() if ledger.endings(entry.id)}
        assert ended == {entry.id: entry.status for entry in ledger.entries() if entry.status in FINAL}
        assert {ledger.endings(name)[0].status for name in ended} == {
            Status.COMMITTED,
            Status.FAILED,
            Status.REJECTED,
            Status.WITHDRAWN,
        }
