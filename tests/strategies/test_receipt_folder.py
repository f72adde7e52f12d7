"""A signed receipt of every request that ended: whatever ended it, whatever fails, and one for each end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fault_trials import PLAN, Trial, trained
from jinja2 import TemplateSyntaxError
from shared_requests import committed, instead, second_ledger

from fed_unlearn import protocol
from fed_unlearn.arrays import unpack
from fed_unlearn.errors import InvalidParameterError, StorageError
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.receipts import (
    Receipt,
    RefusedReceiptError,
    check_in_ledger,
    files,
    issuing,
    read_public_key,
    signing_key,
    verify,
)
from fed_unlearn.receipts.folder import write_missing
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import ContinualUnlearning, Event, Holds
from fed_unlearn.strategies.receipt_folder import ReceiptFolder

NEVER = Thresholds(max_forget_accuracy=0.0, max_retain_drop=0.0, max_total_retain_drop=0.0)
OPEN = Thresholds(max_forget_accuracy=None, max_retain_drop=None, max_total_retain_drop=None)
MIXED = Gate(
    class_thresholds=OPEN, sample_thresholds=NEVER, client_thresholds=OPEN, max_repair_rounds=0, max_attempts=1
)


def receipts_of(trial: Trial, folder: Path | None = None) -> dict[str, Receipt]:
    """What stands in the folder, by name of the file: each was signed with the server's key, and fits its ledger."""
    ledger, found = trial.strategy.ledger, dict[str, Receipt]()
    key = read_public_key(ledger.path.with_name("receipts.pub"))
    for path in sorted((folder or trial.folder / "receipts").iterdir()):
        if path.suffix == ".json":
            found[path.name] = verify(path.read_bytes(), key).receipt
            check = check_in_ledger(found[path.name], ledger.path, ledger.key_file)
            assert not check.problems and check.checked
            assert path.with_suffix(".html").read_text().startswith("<!doctype html>")
    return found


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_end_has_a_receipt_and_issuing_again_changes_nothing(tmp_path: Path) -> None:
    trial = trained(tmp_path, gate=MIXED, plan=replace(PLAN, holds=Holds(of_class=0.5)), receipts=True)
    trial.serve(
        ForgetRequest.for_client(1, id="gone"),
        ForgetRequest.for_samples(2, count=2, id="in-vain"),
        ForgetRequest.for_samples(3, ["no-such-sample"], id="impossible"),
        ForgetRequest.for_class(3, id="taken-back"),
    )
    assert trial.status("taken-back") is Status.HELD
    with second_ledger(trial) as ledger:
        ledger.withdraw("taken-back")
    trial.serve()
    found = receipts_of(trial)
    assert {name: receipt.status for name, receipt in found.items()} == {
        "gone.json": "committed",
        "in-vain.json": "failed",
        "impossible.json": "rejected",
        "taken-back.json": "withdrawn",
    }
    outcome: Any = trial.strategy.ledger.entry("gone").outcome
    figures = found["gone.json"].audits.after
    assert figures["retain_accuracy"].value == outcome["after"]["retain_accuracy"]
    before = bytes_of(tmp_path / "receipts")
    trial.serve()
    trial.restart()
    trial.train(1)
    assert bytes_of(tmp_path / "receipts") == before


def test_a_strategy_without_receipts_writes_none(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    trial.serve(ForgetRequest.for_class(3))
    assert not list(tmp_path.rglob("receipts*"))
    with pytest.raises(InvalidParameterError, match=r"receipt_key .* without receipts"):
        ContinualUnlearning(trial.new_inner(), ledger=tmp_path / "other.db", receipt_key=tmp_path / "key")


@contextmanager
def dying_at(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server that ends where a file of that ending is written."""

    def write(path: Path, content: bytes) -> None:
        if path.suffix == name:
            raise KeyboardInterrupt
        path.write_bytes(content)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(files, "write_atomically", write)
        yield


@pytest.mark.parametrize("where", [".html", ".json"], ids=["before the page", "between page and receipt"])
def test_what_a_crash_has_cut_off_is_made_up_for(tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = trained(tmp_path, receipts=True)
    with dying_at(where, monkeypatch):
        trial.serve(ForgetRequest.for_class(3))
    trial.restart()
    assert trial.status() is Status.COMMITTED and receipts_of(trial) == {}
    trial.grid.gone.update(range(4))  # nobody has to be there for it
    trial.serve()
    assert list(receipts_of(trial)) == ["r1.json"]


def blocked_folder(trial: Trial) -> Path:
    """A file where the folder should be."""
    (trial.folder / "receipts").touch()
    return trial.folder / "receipts"


def blocked_key(trial: Trial) -> Path:
    """A key that is none."""
    path = trial.strategy.ledger.path.with_name("receipts.key")
    path.write_text("no key")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("block", [blocked_folder, blocked_key])
def test_a_commit_stays_whatever_becomes_of_its_receipt_and_the_user_is_told(
    tmp_path: Path, block: Any, caplog: pytest.LogCaptureFixture
) -> None:
    trial, events = trained(tmp_path, receipts=True), list[Event]()
    trial.strategy.observer = events.append
    blocking = block(trial)
    result = trial.serve(ForgetRequest.for_class(3))
    assert committed(result) == ["r1"] and trial.strategy.ledger.verify().problem is None
    told = [event.text for event in events if event.kind == "receipt-failed"]
    assert len(told) == 1 and "r1" in told[0] and blocking.name in told[0] and "made up for" in told[0]
    assert told[0] in caplog.text
    trial.serve()
    assert [event.kind for event in events].count("receipt-failed") == 1, "the same is said once"
    blocking.unlink()
    trial.serve()
    assert list(receipts_of(trial)) == ["r1.json"]


def absurd_clock(patch: pytest.MonkeyPatch) -> None:
    """A machine whose clock is beyond every calendar."""
    patch.setattr(issuing, "time", SimpleNamespace(time=lambda: 1e30))


def broken_template(patch: pytest.MonkeyPatch) -> None:
    """A page whose template was edited."""

    def fail(_: object) -> str:
        raise TemplateSyntaxError("unexpected end of template", 1)

    patch.setattr(files, "receipt_page", fail)


@pytest.mark.parametrize(
    ("breaking", "told"), [(absurd_clock, "OverflowError: "), (broken_template, "TemplateSyntaxError: unexpected end")]
)
def test_no_kind_of_error_of_a_receipt_comes_after_a_commit(
    tmp_path: Path, breaking: Callable[[pytest.MonkeyPatch], None], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial, events = trained(tmp_path, receipts=True), list[Event]()
    trial.strategy.observer = events.append
    with monkeypatch.context() as patch:
        breaking(patch)
        assert committed(trial.serve(ForgetRequest.for_class(3))) == ["r1"]
    [text] = [event.text for event in events if event.kind == "receipt-failed"]
    assert "receipts are missing of requests r1: " in text and told in text and "made up for" in text
    assert receipts_of(trial) == {}
    trial.serve()
    assert list(receipts_of(trial)) == ["r1.json"]


def test_a_page_that_cannot_be_made_again_hides_no_receipt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    ended(ledger, "r1")
    assert ReceiptFolder(ledger, tmp_path / "receipts").catch_up() == []
    (tmp_path / "receipts" / "r1.html").unlink()
    broken_template(monkeypatch)
    folder = ReceiptFolder(ledger, tmp_path / "receipts")
    assert folder.catch_up() == [] and folder.signed("r1") is not None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_one_such_cause(tmp_path: Path) -> None:
    trial = trained(tmp_path, receipts=True)
    (tmp_path / "receipts").mkdir(mode=0o500)
    assert committed(trial.serve(ForgetRequest.for_class(3))) == ["r1"]
    (tmp_path / "receipts").chmod(0o700)
    trial.serve()
    assert list(receipts_of(trial)) == ["r1.json"]


def test_a_request_that_is_opened_again_gets_a_receipt_for_each_end(tmp_path: Path) -> None:
    forgetting = Thresholds(max_forget_accuracy=0.05, max_retain_drop=None, max_total_retain_drop=None)
    plan = replace(PLAN, parameters={"boundary-shrink": {"epochs": 10, "learning_rate": 0.02}}, reopen_relapsed=True)
    trial = trained(tmp_path, gate=Gate(class_thresholds=forgetting, max_training_drop=1.0), plan=plan, receipts=True)
    known = unpack(trial.train(6).arrays)
    assert committed(trial.serve(ForgetRequest.for_class(3))) == ["r1"]
    first = bytes_of(tmp_path / "receipts")
    for client in range(4):
        trial.grid.spoil(instead(known), client, protocol.TRAIN, 1)
    trial.train(1)
    found = receipts_of(trial)
    assert list(found) == ["r1.2.json", "r1.json"]
    assert {name: bytes_of(tmp_path / "receipts")[name] for name in first} == first, "the older one stays"
    assert found["r1.2.json"].supersedes == found["r1.json"].positions.ended.digest
    assert found["r1.2.json"].models.after == trial.strategy.ledger.served_model()
    for path in (tmp_path / "receipts").iterdir():
        path.unlink()
    trial.restart()
    trial.serve()
    assert list(receipts_of(trial)) == ["r1.2.json", "r1.json"], "both are made up for"


def ended(ledger: Ledger, *ids: str) -> None:
    """Requests that ended, without any training."""
    for name in ids:
        ledger.receive(ForgetRequest.for_class(3, id=name))
        ledger.withdraw(name)


ODD_IDS = [
    "../../escape",
    "r1",
    "R1",
    "r1.2",
    "r1+2",
    ".",
    "..",
    "con",
    "a/b",
    "a\\b",
    "é" * 90,
    "x" * 100,
    "\n",
    "r1 ",
]


def test_no_id_leads_out_of_the_folder_or_to_another_requests_file(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "server" / "ledger.db")
    ended(ledger, *ODD_IDS)
    folder = ReceiptFolder(ledger, tmp_path / "receipts")
    assert folder.catch_up() == []
    files = [path for path in (tmp_path / "receipts").iterdir() if path.suffix == ".json"]
    assert len({path.name.casefold() for path in files} - {"r1.json"}) == len(files) - 2, "but for capitals"
    key = read_public_key(tmp_path / "server" / "receipts.pub")
    shown = [verify(path.read_bytes(), key).receipt for path in files]
    assert len(shown) == len(ODD_IDS) == len({receipt.request for receipt in shown})
    assert {path.name for path in tmp_path.iterdir()} == {"server", "receipts"}


def test_a_file_that_is_there_is_kept_whatever_it_is(tmp_path: Path) -> None:
    """Another ledger's receipt, a changed one, or anything else of that name."""
    ledgers = [Ledger(tmp_path / name / "ledger.db") for name in ("one", "two")]
    for ledger in ledgers:
        ended(ledger, "r1", "r2")
    shared = tmp_path / "receipts"
    shared.mkdir()
    (shared / "r2.json").write_text("mine")
    for ledger in ledgers:
        assert ReceiptFolder(ledger, shared).catch_up() == []
    before = bytes_of(shared)
    assert before["r2.json"] == b"mine" and len(before) == 1 + 2 * 4
    for ledger in ledgers:
        key, fitting = read_public_key(ledger.path.with_name("receipts.pub")), list[str]()
        for name in before:
            try:
                fitting.append(verify(before[name], key).receipt.request)
            except RefusedReceiptError:
                continue
        assert sorted(fitting) == ["r1", "r2"]
        assert ReceiptFolder(ledger, shared).catch_up() == []
    assert bytes_of(shared) == before


def test_a_damaged_receipt_is_kept_and_a_right_one_is_written_beside_it(tmp_path: Path) -> None:
    """One whose figures or words were changed still reads as a receipt; only its signature tells."""
    ledger, shared = Ledger(tmp_path / "ledger.db"), tmp_path / "receipts"
    ended(ledger, "r1", "r2")
    assert ReceiptFolder(ledger, shared).catch_up() == []
    right = (shared / "r1.json").read_bytes()
    damaged = right.replace(b'"status":"withdrawn"', b'"status":"committed"')
    assert damaged != right
    (shared / "r1.json").write_bytes(damaged)
    os.mkfifo(shared / "pipe.json")
    folder = ReceiptFolder(ledger, shared)
    assert folder.catch_up() == [] and folder.signed("r1") is not None
    key = read_public_key(tmp_path / "receipts.pub")
    assert verify((shared / "r1+2.json").read_bytes(), key).receipt.status == "withdrawn"
    assert (shared / "r1.json").read_bytes() == damaged and not (shared / "r2+2.json").exists()
    receipts = write_missing(ledger, ["r2", "r1"], signing_key(tmp_path / "receipts.key"), shared)
    assert [(each.path.name, each.is_new) for each in receipts] == [("r2.json", False), ("r1+2.json", False)]
    (shared / "r1+2.json").unlink()
    with pytest.raises(StorageError, match=r"r1\.json: is there, and is no receipt of request"):
        list(write_missing(ledger, ["r2", "r1"], signing_key(tmp_path / "receipts.key"), shared))


def test_several_strategies_over_one_ledger_issue_one_receipt(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    ended(ledger, "r1")
    same, again, other = (ReceiptFolder(ledger, tmp_path / name) for name in ("receipts", "receipts", "others"))
    assert same.catch_up() == again.catch_up() == other.catch_up() == []
    ended(ledger, "r2")
    assert other.catch_up() == []
    assert sorted(bytes_of(tmp_path / "receipts")) == ["r1.html", "r1.json"]
    assert sorted(bytes_of(tmp_path / "others")) == ["r1.html", "r1.json", "r2.html", "r2.json"]


def test_a_key_may_stand_elsewhere_and_a_page_that_is_gone_is_written_again(tmp_path: Path) -> None:
    ledger, key = Ledger(tmp_path / "ledger.db"), tmp_path / "safe" / "own.key"
    ended(ledger, "r1")
    assert ReceiptFolder(ledger, tmp_path / "receipts", key).catch_up() == []
    assert key.stat().st_mode & 0o777 == 0o600 and not (tmp_path / "receipts.key").exists()
    receipt = (tmp_path / "receipts" / "r1.json").read_bytes()
    verify(receipt, read_public_key(tmp_path / "safe" / "own.pub"))
    page = (tmp_path / "receipts" / "r1.html").read_bytes()
    (tmp_path / "receipts" / "r1.html").unlink()
    assert ReceiptFolder(ledger, tmp_path / "receipts", key).catch_up() == []
    assert bytes_of(tmp_path / "receipts") == {"r1.html": page, "r1.json": receipt}
    for path in (tmp_path / "receipts").iterdir():
        assert path.stat().st_mode & 0o077 == 0


def test_no_new_key_is_made_where_there_are_receipts_of_another(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    ended(ledger, "r1")
    assert ReceiptFolder(ledger, tmp_path / "receipts", tmp_path / "own.key").catch_up() == []
    ended(ledger, "r2")
    folder = ReceiptFolder(ledger, tmp_path / "receipts")
    [problem] = folder.catch_up()
    assert "r2" in problem and "receipts.key" in problem and not (tmp_path / "receipts.key").exists()
    assert folder.signed("r1") is None, "its owner would be sent a key that does not fit"
    again = ReceiptFolder(ledger, tmp_path / "receipts", tmp_path / "own.key")
    assert again.catch_up() == [] and again.signed("r1") is not None
