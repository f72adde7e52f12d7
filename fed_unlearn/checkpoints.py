"""Files that are either as they were or as they should be, and models by the digest of their bytes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fed_unlearn.errors import InvalidModelError

if TYPE_CHECKING:  # the ledger's commands write files, and should not wait for NumPy
    import numpy as np


def make_private_file(path: Path) -> None:
    """Make an empty file that only its owner can read and write, whatever the umask. One that exists stays."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def make_private_folder(path: Path) -> None:
    """Make a folder, with its parents, that only its owner can enter. Folders that exist stay as they are."""
    if not path.is_dir():
        make_private_folder(path.parent)
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            if path.is_dir():  # another process was faster
                return
            raise
        path.chmod(0o700)


def write_atomically(path: Path, content: bytes, *, synced: bool = True) -> None:
    """Write a temporary file in the same folder, sync it to disk, and rename it in one step.

    Only the owner can read the file, whatever the umask.

    Parameters
    ----------
    path : Path
        The file to write. Its folder must exist.
    content : bytes
        The new content.
    synced : bool
        Whether it is on disk when this returns. If not, it may be lost when the machine stops, and be cut short.

    Raises
    ------
    OSError
        If it cannot be written; the file is as it was. The error names it.
    """
    try:
        _write_atomically(path, content, synced)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _write_atomically(path: Path, content: bytes, synced: bool) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        make_private_file(temporary)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            if synced:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if not synced:
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove_temporary_files(folder: Path) -> None:
    """Remove what :func:`write_atomically` left in a folder and below it in a process that was killed.

    Nobody else may write there meanwhile.
    """
    for path in folder.rglob(".*"):
        if is_temporary(path) and path.is_file():
            path.unlink(missing_ok=True)


def is_temporary(path: Path) -> bool:
    """Whether a file has a name that :func:`write_atomically` gives for a moment."""
    return bool(_TEMPORARY.fullmatch(path.name))


_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}")

Arrays = Mapping[str, "np.ndarray"]

_ORDER = "order"
_HEADER_AT = 8


class CheckpointStore:
    """Models as safetensors files in one folder, each written once and synced to disk.

    Parameters
    ----------
    folder : str or Path
        The folder. It is made if it does not exist.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        make_private_folder(self.folder)

    def save(self, arrays: Arrays) -> str:
        """Store a model.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            The model's arrays by name.

        Returns
        -------
        str
            SHA-256 of the file, in hexadecimal. The same arrays in the same order give the same digest.
        """
        import numpy as np
        from safetensors.numpy import save

        order = json.dumps(list(arrays))
        content = save({name: np.asarray(value, order="C") for name, value in arrays.items()}, {_ORDER: order})
        digest = hashlib.sha256(content).hexdigest()
        path = self.path(digest)
        if not path.exists():
            write_atomically(path, content)
        return digest

    def load(self, digest: str) -> dict[str, np.ndarray]:
        """Read a model. Its arrays keep the order in which they were saved, because Flower's strategies use positions.

        Raises
        ------
        InvalidModelError
            If the file cannot be read, or its bytes do not match its name.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        path = self.path(digest)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InvalidModelError(f"{path}: the checkpoint cannot be read: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise InvalidModelError(f"{path}: the bytes do not match the digest in the name; restore the file")
        try:
            arrays = load(content)
            header = json.loads(content[_HEADER_AT : _HEADER_AT + int.from_bytes(content[:_HEADER_AT], "little")])
            order = json.loads(header.get("__metadata__", {}).get(_ORDER, "null"))
            return dict(arrays) if order is None else {name: arrays[name] for name in order}
        except (SafetensorError, ValueError, KeyError) as error:
            raise InvalidModelError(f"{path}: not a safetensors file: {error}") from error

    def path(self, digest: str) -> Path:
        """Path of the file with a digest, whether it exists or not."""
        return self.folder / f"{digest}.safetensors"

    def purge(self, keep: Collection[str]) -> int:
        """Delete every model whose digest is not in ``keep``; return the number of deleted models."""
        kept = {self.path(digest).name for digest in keep}
        unwanted = [path for path in self.folder.glob("*.safetensors") if path.name not in kept]
        for path in unwanted:
            path.unlink()
        return len(unwanted)
