"""Files that loggers append to, cut back to the last complete entry when a run resumes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fed_unlearn.checkpoints import write_atomically
from fed_unlearn.errors import InvalidDataError

_STATE = "state.json"


class ReportFiles:
    """A folder of growing files, with the length of each file after the last complete entry.

    Opening a folder cuts off what loggers have written after the last :meth:`save`.

    Parameters
    ----------
    folder : Path
        The folder. It is created if it is missing.
    patterns : sequence of str
        Glob patterns of the files that loggers write in it. Other files are not touched.

    Attributes
    ----------
    state : dict or None
        The last argument of :meth:`save`, in this process or an earlier one; None for a new folder.

    Raises
    ------
    InvalidDataError
        If there are files of these patterns without a saved state, or the saved state cannot be read.
    """

    def __init__(self, folder: Path, patterns: Sequence[str]) -> None:
        self._folder, self._patterns = folder, tuple(patterns)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / _STATE
        if not path.exists():
            if foreign := self._files():
                raise InvalidDataError(
                    f"{foreign[0][1]} is there, but no {_STATE} of an earlier report; give a folder of its own"
                )
            write_atomically(path, json.dumps({"files": {}, "state": None}).encode())
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
            sizes: dict[str, int] = dict(body["files"])
            self.state: dict[str, Any] | None = body["state"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidDataError(
                f"{path}: not readable ({error}); expected what an earlier report left: remove the folder for a new one"
            ) from None
        for name, file in self._files():
            size = sizes.get(name, 0)
            if size == 0:
                file.unlink()
            elif file.stat().st_size > size:
                os.truncate(file, size)

    def save(self, state: Mapping[str, Any]) -> None:
        """Save the state and the lengths of all files. Loggers must have flushed them."""
        self.state = dict(state)
        sizes = {name: file.stat().st_size for name, file in self._files()}
        write_atomically(self._folder / _STATE, json.dumps({"files": sizes, "state": self.state}).encode())

    def _files(self) -> list[tuple[str, Path]]:
        found = [file for pattern in self._patterns for file in self._folder.glob(pattern) if file.is_file()]
        return [(str(file.relative_to(self._folder)), file) for file in sorted(found)]
