"""Which receipt a file holds: the one rule of the server's folder and of ``receipt issue``."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from receipt_ledgers import opened, write

from fed_unlearn.ledger import Ledger
from fed_unlearn.receipts import read_receipt, receipt_page, signing_key
from fed_unlearn.receipts.files import receipts_of_ends
from fed_unlearn.receipts.folder import write_missing
from fed_unlearn.receipts.signing import MOST_BYTES
from fed_unlearn.strategies.receipt_folder import ReceiptFolder


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    write(tmp_path / "ledger.db")
    with opened(tmp_path / "ledger.db") as found:
        yield found


def by_the_server(ledger: Ledger, folder: Path) -> None:
    assert ReceiptFolder(ledger, folder).catch_up() == []


def by_the_command(ledger: Ledger, folder: Path) -> None:
    key = signing_key(ledger.path.with_name("receipts.key"))
    list(write_missing(ledger, [f"r{number}" for number in range(1, 6)], key, folder))


either = pytest.mark.parametrize("issue", [by_the_server, by_the_command])


def found_in(folder: Path, ledger: Ledger) -> dict[str, str]:
    """Requests of the receipts that are found, by name of the file."""
    own = signing_key(ledger.path.with_name("receipts.key")).public_key()
    found = receipts_of_ends(folder, ledger.identity, ledger.ends(), own)
    assert all(kept.signed.receipt.positions.ended.digest == digest for digest, kept in found.items())
    return {kept.path.name: kept.signed.receipt.request for kept in found.values()}


@either
def test_a_receipt_counts_whatever_its_file_is_called(
    ledger: Ledger, tmp_path: Path, issue: Callable[[Ledger, Path], None]
) -> None:
    folder = tmp_path / "receipts"
    issue(ledger, folder)
    (folder / "r1.json").rename(folder / "r1+2.json")
    (folder / "r2.json").rename(folder / "of-march.json")
    (folder / "z-copy.json").write_bytes((folder / "r3.json").read_bytes())
    before = {path.name: path.read_bytes() for path in folder.glob("*.json")}
    issue(ledger, folder)
    assert {path.name: path.read_bytes() for path in folder.glob("*.json")} == before
    assert found_in(folder, ledger) == {
        "r1+2.json": "r1",
        "of-march.json": "r2",
        "r3.json": "r3",
        "r4.json": "r4",
        "r5.json": "r5",
    }


@either
def test_the_page_is_there_wherever_the_receipt_is(
    ledger: Ledger, tmp_path: Path, issue: Callable[[Ledger, Path], None]
) -> None:
    folder = tmp_path / "receipts"
    issue(ledger, folder)
    (folder / "r1.json").rename(folder / "r1+2.json")
    for page in folder.glob("*.html"):
        page.unlink()
    issue(ledger, folder)
    assert sorted(path.stem for path in folder.glob("*.html")) == ["r1+2", "r2", "r3", "r4", "r5"]
    for file in folder.glob("*.json"):
        assert file.with_suffix(".html").read_text() == receipt_page(read_receipt(file.read_bytes()))


def test_what_holds_no_receipt_of_the_ledger_is_none(ledger: Ledger, tmp_path: Path) -> None:
    folder = tmp_path / "receipts"
    by_the_server(ledger, folder)
    os.mkfifo(folder / "pipe.json")
    (folder / "folder.json").mkdir()
    (folder / "nowhere.json").symlink_to("missing")
    (folder / "endless.json").symlink_to("/dev/zero")
    (folder / "empty.json").touch()
    (folder / "r1.json").write_bytes((folder / "r1.json").read_bytes().replace(b'"attempts":1', b'"attempts":2'))
    (folder / "r2.json").write_bytes((folder / "r2.json").read_bytes() + b" " * MOST_BYTES)
    assert set(found_in(folder, ledger).values()) == {"r3", "r4", "r5"}
    write(tmp_path / "other" / "ledger.db")
    with opened(tmp_path / "other" / "ledger.db") as other:
        assert found_in(folder, other) == {}
    assert found_in(tmp_path / "missing", ledger) == found_in(folder / "r3.json", ledger) == {}


@either
def test_no_more_is_read_of_a_file_than_a_receipt_may_have(
    ledger: Ledger, tmp_path: Path, issue: Callable[[Ledger, Path], None]
) -> None:
    folder = tmp_path / "receipts"
    issue(ledger, folder)
    with (folder / "dump.json").open("wb") as file:
        file.truncate(2**30)
    tracemalloc.start()
    issue(ledger, folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 * MOST_BYTES
