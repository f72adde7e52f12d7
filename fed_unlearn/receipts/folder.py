"""A folder of receipts: each is written once, with its page, and stays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from fed_unlearn.checkpoints import make_private_folder, write_atomically
from fed_unlearn.errors import StorageError
from fed_unlearn.ledger import Ledger
from fed_unlearn.receipts.issuing import issue, receipt_file_name
from fed_unlearn.receipts.keys import Ed25519PrivateKey
from fed_unlearn.receipts.page import receipt_page


def write_missing(
    ledger: Ledger, request_ids: Iterable[str], key: Ed25519PrivateKey, folder: Path
) -> Iterator[tuple[str, Path]]:
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
    tuple of (str, Path)
        A request's id and the file of a receipt, also if it was there already.

    Raises
    ------
    StorageError
        If a file cannot be written.
    """
    try:
        make_private_folder(folder)
        for request_id in request_ids:
            for ending in ledger.endings(request_id):
                path = folder / receipt_file_name(ledger, request_id, ending.number)
                if not path.exists():
                    signed = issue(ledger, request_id, key, number=ending.number)
                    write_atomically(path.with_suffix(".html"), receipt_page(signed).encode())
                    write_atomically(path, signed.content)  # last: where it is, its page is too
                yield request_id, path
    except OSError as error:
        raise StorageError(
            f"{folder}: receipts cannot be written there: {error.strerror}; name another folder"
        ) from error
