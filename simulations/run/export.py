"""Copies the served model out of a run folder."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from fed_unlearn.checkpoints import CheckpointStore, write_atomically
from fed_unlearn.errors import InvalidModelError
from fed_unlearn.ledger import Ledger


def export_model(folder: Path, target: Path, ledger_key: Path | None = None) -> str:
    """Copy the model that a run accepted last, after checking its digest.

    Parameters
    ----------
    folder : Path
        A run folder.
    target : Path
        The safetensors file to write. It must not exist, and its folder must.
    ledger_key : Path, optional
        The file of the ledger's key, if it is not beside the ledger.

    Returns
    -------
    str
        The SHA-256 digest of the file.

    Raises
    ------
    InvalidModelError
        If the folder holds no run or no accepted model, or the target cannot be written.
    """
    if not (folder / "ledger.db").is_file():
        raise InvalidModelError(f"{folder}: holds no ledger.db; the folder of a run was expected")
    if target.exists():
        raise InvalidModelError(f"{target}: exists already; expected the name of a new file")
    if not target.absolute().parent.is_dir():
        raise InvalidModelError(f"{target}: there is no folder {target.absolute().parent}; make it first")
    with closing(Ledger(folder / "ledger.db", create=False, key=ledger_key)) as ledger:
        digest = ledger.served_model()
    if digest is None:
        raise InvalidModelError(f"{folder}: this run has accepted no model yet")
    store = CheckpointStore(folder / "checkpoints")
    store.load(digest)
    try:
        write_atomically(target, store.path(digest).read_bytes())
    except OSError as error:
        raise InvalidModelError(f"{target}: cannot be written: {error.strerror}; choose another folder") from None
    return digest
