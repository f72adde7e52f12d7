"""Content-addressed store of models: a file's name is the digest of its bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fed_unlearn.errors import InvalidModelError
from fed_unlearn.files import write_atomically

Arrays = Mapping[str, np.ndarray]

_ORDER = "order"
_HEADER_AT = 8


class CheckpointStore:
    """Models as safetensors files in one folder, each written once and synced to disk.

    Parameters
    ----------
    folder : str or Path
        Made if it is not there.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def save(self, arrays: Arrays) -> str:
        """Store a model.

        Parameters
        ----------
        arrays : mapping of str to ndarray

        Returns
        -------
        str
            SHA-256 of the file, in hexadecimal: the same arrays in the same order give the same digest.
        """
        order = json.dumps(list(arrays))
        content = save({name: np.asarray(value, order="C") for name, value in arrays.items()}, {_ORDER: order})
        digest = hashlib.sha256(content).hexdigest()
        path = self.path(digest)
        if not path.exists():
            write_atomically(path, content)
        return digest

    def load(self, digest: str) -> dict[str, np.ndarray]:
        """Read a model back, its arrays in the order in which they were saved: Flower's strategies go by position.

        Raises
        ------
        InvalidModelError
            If the store does not have it, or its bytes are not those of its name.
        """
        path = self.path(digest)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InvalidModelError(f"{path}: the checkpoint cannot be read: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise InvalidModelError(f"{path}: the bytes are not those that its name promises; restore the file")
        try:
            arrays = load(content)
            header = json.loads(content[_HEADER_AT : _HEADER_AT + int.from_bytes(content[:_HEADER_AT], "little")])
            order = json.loads(header.get("__metadata__", {}).get(_ORDER, "null"))
            return dict(arrays) if order is None else {name: arrays[name] for name in order}
        except (SafetensorError, ValueError, KeyError) as error:
            raise InvalidModelError(f"{path}: not a safetensors file: {error}") from error

    def path(self, digest: str) -> Path:
        """Where a model lies, or would."""
        return self.folder / f"{digest}.safetensors"

    def purge(self, keep: Collection[str]) -> int:
        """Delete every model but those kept; returns how many went."""
        kept = {self.path(digest).name for digest in keep}
        unwanted = [path for path in self.folder.glob("*.safetensors") if path.name not in kept]
        for path in unwanted:
            path.unlink()
        return len(unwanted)
