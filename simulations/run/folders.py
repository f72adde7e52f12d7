"""Output folders. They are new or empty, and checked before anything is computed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.simulations.run.results import FILE_NAME

SCENARIO_FILE = "scenario.toml"
"""The resolved scenario in the folder of a run."""


class OutputFolderError(FedUnlearnError, ValueError):
    """Raised if an output folder cannot be used."""


def usable_folder(folder: Path, results: str) -> Path:
    """Check an output folder and return its absolute path. Nothing is made yet.

    Parameters
    ----------
    folder : Path
        The folder of ``--out``.
    results : str
        The name of a file that shows that the folder was used before.

    Raises
    ------
    OutputFolderError
        If it is a file, lies below a file, or is not empty.
    """
    folder = folder.expanduser().absolute()
    blocking = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    if not blocking.is_dir() and blocking.exists():
        raise OutputFolderError(f"--out {folder}: {blocking} is a file; expected a new folder or an empty one")
    if (folder / results).exists():
        raise OutputFolderError(f"--out {folder}: holds a run already; expected a new folder or an empty one")
    if folder.exists() and any(folder.iterdir()):
        raise OutputFolderError(f"--out {folder}: is not empty; expected a new folder or an empty one")
    return folder


def make_folder(folder: Path) -> bool:
    """Make an output folder.

    Returns
    -------
    bool
        Whether the folder is a new one.

    Raises
    ------
    OutputFolderError
        If it cannot be made or written to.
    """
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise OutputFolderError(
            f"--out {folder}: cannot be written ({error.strerror}); expected a folder that can be made"
        ) from None
    return is_new


def holds_a_run(folder: Path) -> bool:
    """Whether a folder holds a run or part of one."""
    return (folder / SCENARIO_FILE).is_file() and (folder / FILE_NAME).is_file()
