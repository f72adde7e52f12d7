"""A folder of receipts: each is written once, with its page, and stays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fed_unlearn.checkpoints import make_private_folder
from fed_unlearn.errors import StorageError
from fed_unlearn.ledger import Ledger
from fed_unlearn.receipts.files import ReceiptOnDisk, receipts_of_ends
from fed_unlearn.receipts.issuing import issue
from fed_unlearn.receipts.keys import Ed25519PrivateKey
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

    A receipt counts whatever its file is called. Where only its page is missing, that is written.

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
    wanted = [ending for request_id in request_ids for ending in ledger.endings(request_id)]
    try:
        make_private_folder(folder)
        there = receipts_of_ends(folder, ledger.identity, [ending.ended for ending in wanted], key.public_key())
        for ending in wanted:
            request_id, kept = str(ending.ended.request_id), there.get(ending.ended.digest)
            if kept is None:
                signed = issue(ledger, request_id, key, number=ending.number)
                new = ReceiptOnDisk(folder / signed.receipt.file_name, signed)
                if new.path.exists():
                    raise StorageError(
                        f"{new.path}: is there, and is no receipt of request {quoted(request_id)} of this ledger; name"
                        " another folder, or move the file away"
                    )
                new.write()
                yield Written(request_id, new.path, is_new=True)
            else:
                if not kept.page.exists():
                    kept.write_page()
                yield Written(request_id, kept.path, is_new=False)
    except OSError as error:
        raise StorageError(
            f"{folder}: receipts cannot be written there: {error.strerror}; name another folder"
        ) from error
