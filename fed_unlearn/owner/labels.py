"""What a client's data call their classes, kept in its store folder for the owner's command."""

from __future__ import annotations

import json
from pathlib import Path

from fed_unlearn.checkpoints import write_atomically
from fed_unlearn.class_names import UNNAMED_CLASSES, ClassNames, class_names_problem

FILE = "classes.json"


def keep_class_names(folder: Path, names: ClassNames) -> None:
    """Write the names of the classes, unless they stand there. Nothing is kept where they are the indices.

    Parameters
    ----------
    folder : Path
        The client's store folder, which exists.
    names : ClassNames
        Names of the classes of the client's data.
    """
    path = folder / FILE
    if not names.differ:
        path.unlink(missing_ok=True)
    elif kept_class_names(folder) != names:
        write_atomically(path, json.dumps(list(names.names)).encode())


def kept_class_names(folder: Path) -> ClassNames:
    """The names that :func:`keep_class_names` wrote. None where there is no such file, or it is not readable.

    They only tell the owner early of a label that there is not. The node finds the class by its data.
    """
    try:
        names = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return UNNAMED_CLASSES
    known = isinstance(names, list) and class_names_problem(names) is None
    return ClassNames(tuple(names)) if known else UNNAMED_CLASSES
