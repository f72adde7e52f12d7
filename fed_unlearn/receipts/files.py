"""The files of receipts: how one is written with its page, and of which end of a request a file is the receipt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fed_unlearn.checkpoints import write_atomically
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.ledger.chain import LedgerEvent
from fed_unlearn.receipts.keys import Ed25519PublicKey
from fed_unlearn.receipts.page import receipt_page
from fed_unlearn.receipts.signing import MOST_BYTES, SignedReceipt, read_unless_damaged


@dataclass(frozen=True)
class ReceiptOnDisk:
    """A receipt and its file.

    Attributes
    ----------
    path : Path
    signed : SignedReceipt
        What the file holds, byte for byte.
    """

    path: Path
    signed: SignedReceipt

    @property
    def has_own_name(self) -> bool:
        """Whether the file has the name that a receipt gets where nothing else has it."""
        return self.path.name == self.signed.receipt.file_name

    @property
    def page(self) -> Path:
        """The file of the page."""
        return self.path.with_suffix(".html")

    def write(self) -> None:
        """Write the page and then the receipt, so that the page is there wherever the receipt is.

        Raises
        ------
        OSError
            If a file cannot be written. Then there is no receipt.
        """
        self.write_page()
        write_atomically(self.path, self.signed.content)

    def write_page(self) -> None:
        """Write the page, which is made of the receipt's bytes alone.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        write_atomically(self.page, receipt_page(self.signed).encode())


def file_content(path: Path) -> bytes:
    """The first bytes of a file: as many as a receipt may have, and one more.

    Raises
    ------
    FedUnlearnError
        If it is no file. A device or a pipe may never end.
    OSError
        If it cannot be read.
    """
    if not path.is_file():
        what = "not a file" if path.exists() else "does not exist"
        raise FedUnlearnError(f"{path}: {what}; a receipt's file was expected")
    with path.open("rb") as opened:
        return opened.read(MOST_BYTES + 1)


def receipts_of_ends(
    folder: Path, ledger: str, ends: Iterable[LedgerEvent], own: Ed25519PublicKey | None
) -> dict[str, ReceiptOnDisk]:
    """The receipts of a ledger's ends that are in a folder, whatever their files are called.

    A file is the receipt of an end if it names the ledger, and the number and the digest of the event. Files that
    cannot be read, that are no receipts, or that are not as one's own key has signed them, are none.

    Parameters
    ----------
    folder : Path
        The folder. It need not exist.
    ledger : str
        Identity of the ledger.
    ends : iterable of LedgerEvent
        The events by which requests ended.
    own : Ed25519PublicKey or None
        One's own key, where it is known.

    Returns
    -------
    dict of str to ReceiptOnDisk
        By digest of the event. Of several files of one end, the one that has the receipt's own name, else the first.
    """
    wanted = {(ledger, event.sequence, event.digest) for event in ends}
    found: dict[str, ReceiptOnDisk] = {}
    for path in sorted(folder.glob("*.json")) if wanted and folder.is_dir() else ():
        try:
            kept = ReceiptOnDisk(path, read_unless_damaged(file_content(path), own))
        except (OSError, FedUnlearnError):
            continue
        said = kept.signed.receipt
        end = said.positions.ended
        if (said.ledger, end.sequence, end.digest) in wanted and (kept.has_own_name or end.digest not in found):
            found[end.digest] = kept
    return found


def possible_paths(folder: Path, signed: SignedReceipt) -> Iterator[Path]:
    """Files for a receipt, the best name first, without end: ``r1.json``, ``r1+2.json``, ``r1+3.json``."""
    name, number = signed.receipt.file_name, 1
    yield folder / name
    while True:
        number += 1
        yield folder / f"{name.removesuffix('.json')}+{number}.json"
