"""The key that signs receipts, checked before anything is computed."""

from __future__ import annotations

import os
from pathlib import Path

from fed_unlearn.errors import InvalidParameterError


def receipt_key_file(given: Path | None) -> Path | None:
    """The absolute path of the key that ``--receipt-key`` was given; None where it was given none."""
    return None if given is None else given.expanduser().absolute()


def check_receipt_key(path: Path | None) -> None:
    """Raise if a file cannot be the key of receipts.

    Parameters
    ----------
    path : Path or None
        The path of :func:`receipt_key_file`.

    Raises
    ------
    FedUnlearnError
        If the file is no such key, others can read it, or it is not there and cannot be made.
    """
    if path is None:
        return
    if path.exists():
        from fed_unlearn.receipts.keys import read_private_key

        read_private_key(path)
    elif not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
        raise InvalidParameterError(f"--receipt-key {path}: cannot be made; name a file in a folder that is there")
