"""The commands that issue, show and check receipts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from canaries import found_in
from ledger_edits import sql
from receipt_ledgers import PERSONAL, opened, relapse, write

from fed_unlearn.ledger import Ledger
from fed_unlearn.receipts import read_public_key, read_receipt, verify
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.simulations.cli import run_command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    write(tmp_path / "run" / "ledger.db")
    return tmp_path


@pytest.fixture
def issued(folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert run_command(["receipt", "issue", "run"]) == 0
    capsys.readouterr()
    return folder / "run" / "receipts"


VERIFY = ["receipt", "verify", "run/receipts/r1.json", "--key", "run/receipts.pub"]


def test_receipts_of_all_requests_that_ended_are_issued(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["receipt", "issue", "run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a new key was made: run/receipts.key"
    assert lines[1:6] == [f"r{number}: run/receipts/r{number}.json" for number in range(1, 6)]
    assert lines[6].startswith("new ones are signed by the key ")
    public = read_public_key(folder / "run" / "receipts.pub")
    files = sorted(path.name for path in (folder / "run" / "receipts").iterdir())
    assert files == sorted(f"r{number}.{end}" for number in range(1, 6) for end in ("html", "json"))
    for number in range(1, 6):
        content = (folder / "run" / "receipts" / f"r{number}.json").read_bytes()
        assert verify(content, public).receipt.request == f"r{number}"


def test_receipts_that_are_there_stay(issued: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in issued.iterdir()}
    relapse(issued.parent / "ledger.db")
    assert run_command(["receipt", "issue", "run"]) == 0
    after = {path.name: path.read_bytes() for path in issued.iterdir()}
    assert set(after) - set(before) == {"r1.2.json", "r1.2.html"}
    assert {name: after[name] for name in before} == before
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["r1: run/receipts/r1.json (was there)", "r1: run/receipts/r1.2.json"]


@pytest.mark.parametrize("content", ["another ledger's", b"", b"{}", "folder"])
def test_another_file_of_the_name_is_not_taken_for_a_receipt(
    issued: Path, capsys: pytest.CaptureFixture[str], content: str | bytes
) -> None:
    path = issued / "r1.json"
    if content == "another ledger's":
        (issued.parents[1] / "other").mkdir()
        write(issued.parents[1] / "other" / "ledger.db")
        assert run_command(["receipt", "issue", "other", "r1", "--key", "run/receipts.key"]) == 0
        path.write_bytes((issued.parents[1] / "other" / "receipts" / "r1.json").read_bytes())
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.unlink()
        path.mkdir()
    capsys.readouterr()
    assert run_command(["receipt", "issue", "run", "r1"]) == 2
    assert "r1.json: is there, and is no receipt of request 'r1' of this ledger" in one_line(capsys)


def test_receipts_go_where_they_are_wanted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    order = ["receipt", "issue", "run/ledger.db", "r3", "r5", "--key", "keys/mine.pem", "--out", "out/for-them"]
    assert run_command(order) == 2
    assert "keys/mine.pem: there is no folder" in one_line(capsys)
    assert not (folder / "keys").exists() and not (folder / "out").exists()
    (folder / "keys").mkdir()
    assert run_command(order) == 0
    assert capsys.readouterr().out.startswith("a new key was made: keys/mine.pem\n")
    assert run_command(order) == 0
    assert "a new key" not in capsys.readouterr().out
    assert sorted(path.name for path in (folder / "out" / "for-them").iterdir()) == [
        "r3.html", "r3.json", "r5.html", "r5.json",
    ]  # fmt: skip
    assert sorted(path.name for path in (folder / "keys").iterdir()) == ["mine.pem", "mine.pub"]
    assert (folder / "keys" / "mine.pem").stat().st_mode & 0o777 == 0o600
    assert not (folder / "run" / "receipts").exists()
    capsys.readouterr()
    assert run_command(["receipt", "verify", "out/for-them/r3.json", "--key", "keys/mine.pub"]) == 0


@pytest.mark.parametrize("name", ["r6", "r7"])
def test_no_receipt_of_what_has_not_ended(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert run_command(["receipt", "issue", "run", "r1", name]) == 2
    assert name in one_line(capsys)
    assert not (folder / "run" / "receipts").exists()
    assert not (folder / "run" / "receipts.key").exists()


def test_where_no_request_has_ended_nothing_is_issued_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with opened(Path("ledger.db")) as ledger:
        ledger.receive(ForgetRequest.for_class(3, id="waits"))
    assert run_command(["receipt", "issue", "ledger.db"]) == 0
    assert capsys.readouterr().out == "no request has ended in ledger.db: nothing was issued\n"
    assert not list(tmp_path.glob("receipts*"))


def test_show_tells_what_a_receipt_says(issued: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["receipt", "show", "run/receipts/r1.json"]) == 0
    told = capsys.readouterr().out
    for expected in ("request r1: committed", "classes 3 and 1", "boundary-shrink", "100.0 %", "was not checked"):
        assert expected in told
    assert run_command(["receipt", "show", "run/receipts/r1.json", "--json", "--page", "page.html"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body == json.loads((issued / "r1.json").read_text())["receipt"]
    assert Path("page.html").read_bytes() == (issued / "r1.html").read_bytes()
    assert run_command(["receipt", "show", "run/receipts/r1.json", "--page", "page.html"]) == 2
    assert "exists already" in one_line(capsys)


def test_show_says_what_was_asked_of_samples(issued: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["receipt", "show", "run/receipts/r3.json"]) == 0
    told = capsys.readouterr().out
    assert "that the model misclassify 2 samples of one participant's training data" in told
    assert "in the last try" in told and "under their own labels" in told and "forget" not in told.partition("why:")[0]
    assert run_command(["receipt", "show", "run/receipts/r3.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["goal"] == "misclassify"


def test_another_ledgers_key_is_told_of_in_one_line(issued: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (issued.parents[1] / "other").mkdir()
    write(issued.parents[1] / "other" / "ledger.db")
    assert run_command([*VERIFY, "--ledger", "run", "--ledger-key", "other/ledger.key"]) == 1
    refused = [line for line in capsys.readouterr().out.splitlines() if line.startswith("refused: ")]
    assert len(refused) == 1 and "the key is another ledger's, or all of the ledger was made anew" in refused[0]


def test_show_says_what_each_figure_is(issued: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["receipt", "show", "run/receipts/r1.json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = {line.partition(":")[0].strip(): lines[number + 1] for number, line in enumerate(lines[:-1])}
    assert told["Test for traces (membership attack)"].endswith("0 % and 100 % tell them apart entirely.")
    assert told["Hidden recall of the class"].startswith("    Recall of the class if its bias were shifted")
    assert all(line.isprintable() for line in lines)


def test_verify_says_what_was_checked_and_what_was_not(issued: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(VERIFY) == 0
    told = capsys.readouterr().out
    assert told.startswith("signed: request r1 is committed")
    assert "not checked: its place in a ledger" in told
    assert run_command([*VERIFY, "--ledger", "run"]) == 0
    told = capsys.readouterr().out
    assert "as in the ledger: " in told
    assert "not checked: whether the ledger's owner wrote these events" in told
    assert run_command([*VERIFY, "--ledger", "run/ledger.db", "--ledger-key", "run/ledger.key"]) == 0
    assert "not checked" not in capsys.readouterr().out


def test_verify_refuses(issued: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = (issued / "r1.json").read_bytes()
    (folder / "changed.json").write_bytes(content.replace(b'"attempts":1', b'"attempts":2'))
    assert run_command(["receipt", "verify", "changed.json", "--key", "run/receipts.pub"]) == 1
    assert capsys.readouterr().out.startswith("refused: changed.json: its signature does not fit")

    assert run_command(["receipt", "issue", "run", "r1", "--key", "other.key", "--out", "others"]) == 0
    capsys.readouterr()
    assert run_command([*VERIFY[:-1], "other.pub"]) == 1
    assert "the key" in capsys.readouterr().out

    (folder / "other").mkdir()
    write(folder / "other" / "ledger.db")
    assert run_command([*VERIFY, "--ledger", "other"]) == 1
    assert "refused: another ledger" in capsys.readouterr().out

    sql("UPDATE requests SET reason = 'none' WHERE id = 'r3'")(folder / "run" / "ledger.db")
    assert run_command([*VERIFY, "--ledger", "run"]) == 0
    assert run_command([*VERIFY, "--ledger", "run", "--ledger-key", "run/ledger.key"]) == 1
    assert "refused: table requests was edited" in capsys.readouterr().out


HOSTILE = {
    "empty": b"",
    "binary": bytes(range(256)) * 64,
    "deep": b"[" * 300_000,
    "huge": b"{" + b" " * 5_000_000,
    "no UTF-8": b'{"receipt":"\xff\xfe"}',
    "controls": b'{"\\u001b[31m\\u202e":1}',
    "long name": b'{"' + b"a" * 100_000 + b'":1}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_one_printable_line(
    issued: Path, folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (folder / "hostile.json").write_bytes(HOSTILE[name])
    for command in (["verify", "hostile.json", "--key", "run/receipts.pub"], ["show", "hostile.json"]):
        assert run_command(["receipt", *command]) == 1
        told = capsys.readouterr()
        assert told.err == ""
        (line,) = told.out.splitlines()
        assert line.startswith("refused: hostile.json: it is no receipt")
        assert line.isprintable() and len(line) < 500


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["show", "missing.json"], "missing.json: does not exist"),
        (["show", "/dev/zero"], "/dev/zero: not a file"),
        (["show", "run"], "run: not a file"),
        (["show", "a\0b"], "null byte|does not exist|not a file"),
        (["verify", "pipe", "--key", "run/receipts.pub"], "pipe: not a file"),
        (["verify", "run/receipts/r1.json"], "--key"),
        (["verify", "run/receipts/r1.json", "--key", "missing.pub"], "missing.pub: the key cannot be read"),
        (["verify", "run/receipts/r1.json", "--key", "/dev/zero"], "/dev/zero: not a file"),
        (["verify", "run/receipts/r1.json", "--key", "run/receipts.key"], "no public key"),
        (["verify", "run/receipts/r1.json", "--key", "run/receipts/r1.json"], "no public key"),
        ([*VERIFY[1:], "--ledger", "missing"], "missing: does not exist"),
        ([*VERIFY[1:], "--ledger", "run/receipts"], "holds no ledger.db"),
        ([*VERIFY[1:], "--ledger", "run/receipts.pub"], "not a database"),
        ([*VERIFY[1:], "--ledger", "/dev/zero"], "not a file"),
        ([*VERIFY[1:], "--ledger-key", "run/ledger.key"], "--ledger-key was given without --ledger"),
        ([*VERIFY[1:], "--ledger", "run", "--ledger-key", "run/receipts.key"], "not a ledger's key"),
        (["issue", "missing"], "missing: does not exist"),
        (["issue", "run", "--key", "run/receipts.pub"], "run/receipts.pub: a public key; the private key"),
        (["issue", "run", "--key", "run/ledger.key"], "no private key"),
        (["issue", "run", "--out", "run/ledger.db"], "File exists|Not a directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_ends_with_one_line(
    issued: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    os.mkfifo("pipe")
    before = sorted(path.name for path in issued.parent.iterdir())
    assert run_command(["receipt", *arguments]) == 2
    line = one_line(capsys)
    assert any(part in line for part in expected.split("|")), line
    assert sorted(path.name for path in issued.parent.iterdir()) == before


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert line.startswith("fed-unlearn: ") and line.isprintable()
    return line


def test_nobody_stands_in_files_or_on_the_terminal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with opened(folder / "run" / "ledger.db") as ledger:
        ledger.receive(ForgetRequest.for_client("ward-9", id="of-ward-9"))
        ledger.withdraw("of-ward-9")
    assert run_command(["receipt", "issue", "run"]) == 0
    capsys.readouterr()  # the operator's own terminal names the request by its id
    folder_of_receipts = folder / "run" / "receipts"
    contents = {path.name: path.read_bytes() for path in folder_of_receipts.iterdir()}
    contents["names"] = " ".join(contents).encode()
    for path in folder_of_receipts.glob("*.json"):
        assert run_command(["receipt", "show", str(path)]) == 0
        assert run_command(["receipt", "verify", str(path), "--key", "run/receipts.pub", "--ledger", "run"]) == 0
    contents["terminal"] = capsys.readouterr().out.encode()
    assert len(contents) == 14
    assert not found_in(contents, PERSONAL)


def test_a_ledger_that_a_server_has_open_is_compared(issued: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = Ledger(issued.parent / "ledger.db")
    ledger.note("round", {"number": 1})
    assert run_command([*VERIFY, "--ledger", "run"]) == 0
    assert run_command(["receipt", "issue", "run"]) == 0
    ledger.note("round", {"number": 2})
    ledger.close()


def test_checking_imports_no_torch(issued: Path) -> None:
    script = f"""
import sys
from fed_unlearn.simulations.cli import run_command
assert run_command({[*VERIFY, "--ledger", "run", "--ledger-key", "run/ledger.key"]}) == 0
assert run_command(["receipt", "show", "run/receipts/r1.json"]) == 0
assert run_command(["receipt", "issue", "run"]) == 0
print(sorted({{"torch", "flwr", "numpy", "ray"}} & set(sys.modules)))
"""
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "[]"


def test_the_file_is_what_was_signed(issued: Path) -> None:
    for path in issued.glob("*.json"):
        assert read_receipt(path.read_bytes()).content == path.read_bytes()
