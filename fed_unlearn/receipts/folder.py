"""A folder of receipts: each is written once, with its page, and stays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fed_unlearn.checkpoints import make_private_folder, write_atomically
from fed_unlearn.errors import StorageError
from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.endings import Ending
from fed_unlearn.receipts.issuing import issue, receipt_file_name
from fed_unlearn.receipts.keys import Ed25519PrivateKey, Ed25519PublicKey
from fed_unlearn.receipts.page import receipt_page
from fed_unlearn.receipts.signing import MOST_BYTES, RefusedReceiptError, read_unless_damaged
from fed_unlearn.text import quoted


@dataclass(frozen=True)
class Written:
    """A receipt in a folder.

    Attributes
    ----------
    request_id : str
        Id of the request.
    path : Path
        The receipt's file.
    is_new : bool
        Whether it was written now; if not, it was there already.
    """

    request_id: str
    path: Path
    is_new: bool


def write_missing(
    ledger: Ledger, request_ids: Iterable[str], key: Ed25519PrivateKey, folder: Path
) -> Iterator[Written]:
    """Issue the receipts of some requests that a folder does not have yet, each with its page beside it.

    Parameters
    ----------
    ledger : Ledger
    request_ids : iterable of str
        Ids of requests. Those that have not ended are left out.
    key : Ed25519PrivateKey
        The key that signs.
    folder : Path
        The folder. It is made if it does not exist.

    Yields
    ------
    Written
        Each receipt of these requests, also if it was there already.

    Raises
    ------
    StorageError
        If a file cannot be written, or is there and is no receipt of this end of the request.
    """
    try:
        make_private_folder(folder)
        for request_id in request_ids:
            for ending in ledger.endings(request_id):
                path = folder / receipt_file_name(ledger, request_id, ending.number)
                is_new = not path.exists()
                if is_new:
                    signed = issue(ledger, request_id, key, number=ending.number)
                    write_atomically(path.with_suffix(".html"), receipt_page(signed).encode())
                    write_atomically(path, signed.content)  # last: where it is, its page is too
                elif not _is_of(ending, path, key.public_key()):
                    raise StorageError(
                        f"{path}: is there, and is no receipt of request {quoted(request_id)} of this ledger; name"
                        " another folder, or move the file away"
                    )
                yield Written(request_id, path, is_new)
    except OSError as error:
        raise StorageError(
            f"{folder}: receipts cannot be written there: {error.strerror}; name another folder"
        ) from error


def _is_of(ending: Ending, path: Path, own: Ed25519PublicKey) -> bool:
    """Whether a file is a receipt of an end. The digest of its event is that of no other, in any ledger."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    try:
        return read_unless_damaged(content, own).receipt.positions.ended.digest == ending.ended.digest
    except RefusedReceiptError:
        return False
