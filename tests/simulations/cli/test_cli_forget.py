"""``fed-unlearn forget``: what the owner types, and what is on disk when the command returns."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fed_unlearn.ledger import Ledger
from fed_unlearn.owner import KeptReceipts, OwnerAnswer, OwnerQueue, new_request
from fed_unlearn.receipts import issue, read_public_key, verify
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.simulations.cli import BAD_INPUT, run_command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A node's store folder."""
    made = tmp_path / "node"
    made.mkdir()
    (made / "state.json").write_text("{}")
    return made


def forget(folder: Path, *arguments: str) -> int:
    return run_command(["forget", "--client-dir", str(folder), *arguments])


def test_a_request_is_on_disk_when_its_id_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder.parent / "ids"
    file.write_bytes(b"a\r\nb \n\n\xc3\xa9")
    assert (
        forget(folder, "--samples", str(file), "--goal", "misclassify", "--deadline", "2030-01-01T00:00:00+00:00") == 0
    )
    assert forget(folder, "--class", "3", "--note", "mine\x1b") == 0
    assert forget(folder, "--all") == 0
    first, second, third = OwnerQueue(folder).requests()
    assert capsys.readouterr().out.split() == [first.id, second.id, third.id]
    assert (first.kind, first.sample_ids, first.goal) == ("samples", ("a", "b ", "é"), "misclassify")
    assert first.deadline == 1893456000.0
    assert (second.kind, second.of_class, second.note, third.kind) == ("class", 3, "mine\\x1b", "all")


def test_ids_come_from_standard_input_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"a\nb\n")))
    assert forget(folder, "--samples", "-") == 0
    assert [request.sample_ids for request in OwnerQueue(folder).requests()] == [("a", "b")]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "expected one of"),
        (["--class", "1", "--all"], "expected one of"),
        (["--all", "--goal", "misclassify"], "leave it out"),
        (["--status", "--note", "x"], "belong to a new request"),
        (["--all", "--json"], "belongs to --status"),
        (["--all", "--out", "receipt"], "belongs to --receipt"),
        (["--all", "--receipt", "0" * 16], "expected one of"),
        (["--receipt", "0" * 16], "not queued"),
        (["--receipt", "../state"], "not queued"),
        (["--class", "-1"], "--class"),
        (["--class", "99999999999"], "--class"),
        (["--class", "1", "--deadline", "soon"], "ISO 8601"),
        (["--class", "1", "--deadline", "0001-01-01T00:00:00+14:00"], "ISO 8601"),
        (["--class", "1", "--deadline", "0001-01-01T12:00:00+00:00"], "ISO 8601"),
        (["--class", "1", "--deadline", "9999-12-31T23:59:59-14:00"], "ISO 8601"),
        (["--class", "1", "--deadline", "9999-12-31T12:00:00+00:00"], "ISO 8601"),
        (["--samples", "missing"], "cannot be read"),
        (["--samples", "."], "cannot be read"),
        (["--samples", "empty"], "no id was given"),
        (["--samples", "twice"], "line 3 repeats line 1"),
        (["--samples", "control"], "line 1: expected an id"),
        (["--samples", "long"], "line 1: expected an id"),
        (["--samples", "bytes"], "not UTF-8"),
        (["--withdraw", "0" * 16], "not queued"),
        (["--all", "--note", "x" * 3000], "at most 2000"),
    ],
)
def test_bad_input_is_one_line_and_queues_nothing(
    folder: Path, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    contents = {"empty": b"\n", "twice": b"canary\nb\ncanary", "control": b"canary\x1b", "bytes": b"\xff"}
    for name, content in {**contents, "long": b"canary" * 1000}.items():
        Path(name).write_bytes(content)
    assert forget(folder, *arguments) == BAD_INPUT
    captured = capsys.readouterr()
    assert told in captured.err and captured.err.count("\n") == 1 and captured.out == ""
    assert "canary" not in captured.err, "ids are in no error"
    assert [path.name for path in folder.iterdir() if path.name != "owner.lock"] == ["state.json"]


def test_a_folder_of_no_node_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert forget(tmp_path, "--all") == BAD_INPUT
    assert "holds no client's store" in capsys.readouterr().err
    assert forget(tmp_path / "missing", "--all") == BAD_INPUT
    assert list(tmp_path.iterdir()) == []


def test_the_status_has_what_the_server_answered(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queue = OwnerQueue(folder)
    assert forget(folder, "--status") == 0
    assert capsys.readouterr().out == "nothing was asked for here\n"
    served, waits = queue.add(new_request("samples", ["canary", "b"])), queue.add(new_request("class", of_class=3))
    queue.to_be_told("L", again=False)
    figures = {"before/forget_accuracy": 1.0, "after/forget_accuracy": 0.25}
    answer = OwnerAnswer(owner_request=served, status="committed", request="r7", relapses=2, figures=figures)
    held = OwnerAnswer(owner_request=waits, status="held", request="r8", reason="more than 10% needs approval\x1b[31m")
    queue.hear("L", [answer, held])
    queue.withdraw(waits)
    queued = queue.add(new_request("all", note="and all else"))
    assert forget(folder, "--status") == 0
    out = capsys.readouterr().out
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert "2 samples" in lines[served] and "forget accuracy 1.000 -> 0.250" in lines[served]
    assert "worn off 2 times" in lines[served]
    assert "held, withdrawal asked" in lines[waits] and "needs approval\\x1b[31m" in lines[waits]
    assert "queued" in lines[queued] and "and all else" in lines[queued] and "canary" not in out
    assert forget(folder, "--status", "--json") == 0
    body = json.loads(capsys.readouterr().out)
    assert [item["id"] for item in body] == [served, waits, queued]
    assert body[0]["servers"][0]["figures"] == figures and body[2]["status"] == "queued"
    assert "canary" not in json.dumps(body)


def received(folder: Path) -> tuple[str, bytes]:
    """A request that was withdrawn at the server, whose receipt is at the node."""
    queue = OwnerQueue(folder)
    request_id = queue.add(new_request("samples", ["canary", "b"]))
    ledger, key = Ledger(folder.parent / "server" / "ledger.db"), Ed25519PrivateKey.generate()
    name = ledger.receive(ForgetRequest.for_samples("site", count=2, id=f"owner-{'0' * 16}-{request_id}"))
    ledger.withdraw(name)
    signed = issue(ledger, name, key)
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
    KeptReceipts(folder).keep(queue.find(request_id), ledger.identity, signed.content.decode(), raw)
    return request_id, signed.content


def test_the_owner_gets_the_receipt_and_a_page_of_it(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    request_id, content = received(folder)
    assert forget(folder, "--receipt", request_id) == 0
    assert capfd.readouterr().out.encode() == content, "byte for byte, so that it can be checked"
    out, page = folder.parent / "mine.json", folder.parent / "mine.HTML"
    for file in (out, page):
        assert forget(folder, "--receipt", request_id, "--out", str(file)) == 0
    assert out.read_bytes() == content and page.read_text().startswith("<!doctype html>")
    verify(out.read_bytes(), read_public_key(folder / "receipts.pub"))
    assert forget(folder, "--receipt", request_id, "--out", str(folder.parent / "missing" / "x")) == BAD_INPUT
    assert "cannot be written" in capfd.readouterr().err
    assert forget(folder, "--status") == 0
    where = folder / "receipts" / f"{request_id}.json"
    assert f"{request_id}: receipt in {where}" in capfd.readouterr().out
    assert forget(folder, "--status", "--json") == 0
    [shown] = json.loads(capfd.readouterr().out)
    assert shown["receipts"] == [str(where)] and shown["receipt_refused"] == ""


def test_a_receipt_that_is_missing_refused_or_changed_is_said(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    waits = OwnerQueue(folder).add(new_request("class", of_class=1))
    assert forget(folder, "--receipt", waits) == BAD_INPUT
    assert "no receipt" in capfd.readouterr().err
    request_id, content = received(folder)
    file = folder / "receipts" / f"{request_id}.json"
    file.write_bytes(content.replace(b"withdrawn", b"committed"))
    assert forget(folder, "--receipt", request_id) == BAD_INPUT
    captured = capfd.readouterr()
    assert "changed" in captured.err and captured.out == ""
    (folder / "receipts" / f"{waits}.refused").write_text("another key\x1b has signed it")
    assert forget(folder, "--status") == 0
    assert f"{waits}: a receipt was refused: another key\\x1b has signed it" in capfd.readouterr().out
    assert forget(folder, "--receipt", waits) == BAD_INPUT
    assert "another key" in capfd.readouterr().err


def test_withdrawing_says_who_has_to_be_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queue = OwnerQueue(folder)
    first, second = queue.add(new_request("class", of_class=1)), queue.add(new_request("class", of_class=2))
    assert forget(folder, "--withdraw", first) == 0
    queue.to_be_told("L", again=False)
    assert forget(folder, "--withdraw", second) == 0
    assert capsys.readouterr().out == f"{first}: withdrawn\n{second}: the server is told with the next reply\n"


def test_the_command_imports_neither_torch_nor_flower(folder: Path) -> None:
    code = (
        "import sys; from fed_unlearn.simulations.cli import run_command;"
        f"run_command(['forget', '--client-dir', {str(folder)!r}, '--all']);"
        "print({'torch', 'flwr', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()", done.stderr


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Etc/GMT+12"])
@pytest.mark.parametrize("deadline", ["0001-01-03T00:00:00+00:00", "9999-12-29T23:59:00+00:00"])
def test_every_deadline_that_is_taken_can_be_shown(
    folder: Path, zone: str, deadline: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert forget(folder, "--class", "1", "--deadline", deadline) == 0
        assert forget(folder, "--status") == 0
        assert deadline[:4] in capsys.readouterr().out.splitlines()[-1]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_deadline_that_an_older_version_took_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request_id = OwnerQueue(folder).add(new_request("class", of_class=1, deadline=0.0))
    path = folder / "owner.json"
    path.write_text(path.read_text().replace('"deadline":0.0', '"deadline":-62135647200.0'))
    assert forget(folder, "--status") == 0
    assert request_id in capsys.readouterr().out


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="there are no accounts")
@pytest.mark.parametrize("order", [["--all"], ["--class", "1"], ["--withdraw", "0" * 16]])
def test_another_accounts_node_is_refused_and_nothing_is_written(
    folder: Path, order: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 4242)  # what the process of another account sees
    assert forget(folder, *order) == BAD_INPUT
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and f"{own + 4242}" in told and f"({own})" in told and "nothing was changed" in told
    assert [path.name for path in folder.iterdir()] == ["state.json"]
    assert forget(folder, "--status") == 0, "reading harms nobody"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_root_leaves_nothing_in_the_folder_of_a_nodes_account(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.chown(folder / "state.json", 65534, 65534)
    os.chown(folder, 65534, 65534)
    assert forget(folder, "--all") == BAD_INPUT
    assert "65534" in capsys.readouterr().err and not (folder / "owner.json").exists()
    assert not (folder / "owner.lock").exists()
