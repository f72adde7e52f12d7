"""The accepted model of a run folder as a file of its own."""

from __future__ import annotations

from pathlib import Path

from fed_unlearn.checkpoints import CheckpointStore
from fed_unlearn.errors import InvalidModelError
from fed_unlearn.files import write_atomically
from fed_unlearn.ledger import Ledger


def export_model(folder: Path, target: Path) -> str:
    """Copy the model that a run accepted last, checked against its digest.

    Parameters
    ----------
    folder : Path
        A run folder.
    target : Path
        A safetensors file that does not exist yet; its folder must.

    Returns
    -------
    str
        SHA-256 of the file.

    Raises
    ------
    InvalidModelError
        If there is no run or no accepted model in the folder, or the target cannot be written.
    """
    if not (folder / "ledger.db").is_file():
        raise InvalidModelError(f"{folder}: holds no ledger.db; the folder of a run was expected")
    if target.exists():
        raise InvalidModelError(f"{target}: exists already; expected the name of a new file")
    if not target.absolute().parent.is_dir():
        raise InvalidModelError(f"{target}: there is no folder {target.absolute().parent}; make it first")
    ledger = Ledger(folder / "ledger.db")
    try:
        digest = ledger.served_model()
    finally:
        ledger.close()
    if digest is None:
        raise InvalidModelError(f"{folder}: this run has accepted no model yet")
    store = CheckpointStore(folder / "checkpoints")
    store.load(digest)
    try:
        write_atomically(target, store.path(digest).read_bytes())
    except OSError as error:
        raise InvalidModelError(f"{target}: cannot be written: {error.strerror}; choose another folder") from None
    return digest
