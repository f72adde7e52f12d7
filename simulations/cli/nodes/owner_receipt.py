"""``fed-unlearn forget --receipt``: hands the owner a receipt that the node has kept."""

from __future__ import annotations

import sys
from pathlib import Path

from fed_unlearn.checkpoints import write_atomically
from fed_unlearn.errors import FedUnlearnError, InvalidRequestError
from fed_unlearn.text import printable, quoted


def hand_over(folder: Path, request_id: str, out: Path | None) -> None:
    """Print the newest receipt of a request, or write it into a file.

    Parameters
    ----------
    folder : Path
        The client's store folder.
    request_id : str
        Id of the request at the node.
    out : Path or None
        The file. A page for a browser is written if its name ends in ``.html``, else the receipt byte for byte. The
        receipt is printed where it is None.

    Raises
    ------
    FedUnlearnError
        If there is no such request or no receipt of it, the receipt was changed since it was signed or is another
        request's, or the file cannot be written.
    """
    from fed_unlearn.owner import KeptReceipts, OwnerQueue
    from fed_unlearn.receipts import read_receipt, receipt_page

    request, receipts = OwnerQueue(folder).find(request_id), KeptReceipts(folder)
    files = receipts.files(request.id)
    if not files:
        refusal = receipts.refusal(request.id)
        why = f"one was refused: {refusal}" if refusal else "the server sends one when the request has ended"
        raise InvalidRequestError(f"there is no receipt of request {request.id} yet; {why}")
    content = receipts.checked(files[-1], request)
    if out is None:
        print(content.decode(), end="")
        return
    out = out.expanduser()
    page = out.suffix.lower() in (".html", ".htm")
    try:
        write_atomically(out, receipt_page(read_receipt(content)).encode() if page else content)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise FedUnlearnError(
            f"--out {quoted(str(out))}: cannot be written: {reason}; give a file in a folder that is there"
        ) from None
    print(f"{printable(str(out), 1000)}: {'the receipt as a page' if page else 'the receipt'}", file=sys.stderr)
