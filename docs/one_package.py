"""A hook of mkdocs: the project's rooms as the one package that an installation makes of them.

``strategies/`` and ``simulations/`` stand beside ``fed_unlearn/`` in the repository and are installed inside it. The
reference is read from the sources without importing them, so the same tree is put together here, out of links.
"""

from __future__ import annotations

import atexit
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority

ROOMS = ("strategies", "simulations")


@event_priority(100)  # before mkdocstrings reads its settings
def on_config(config: Any) -> Any:
    """Tell mkdocstrings where the package is."""
    repository = Path(config.config_file_path).parent.parent
    folder = tempfile.TemporaryDirectory(prefix="fed_unlearn-docs-")
    atexit.register(folder.cleanup)
    package = Path(folder.name) / "fed_unlearn"
    package.mkdir()
    for path in (repository / "fed_unlearn").iterdir():
        (package / path.name).symlink_to(path)
    for room in ROOMS:
        (package / room).symlink_to(repository / room)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [folder.name]
    return config
