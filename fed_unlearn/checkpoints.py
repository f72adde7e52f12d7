"""Files that are either as they were or as they should be, and models by the digest of their bytes."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fed_unlearn.errors import InvalidModelError


def write_atomically(path: Path, content: bytes) -> None:
    """Write a temporary file in the same folder, sync it to disk, and rename it in one step.

    Parameters
    ----------
    path : Path
        The file to write. Its folder must exist.
    content : bytes
        The new content.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


Arrays = Mapping[str, np.ndarray]

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
        self.folder.mkdir(parents=True, exist_ok=True)

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
