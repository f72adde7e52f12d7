"""What the page shows of a run folder beside ``results.json``: its settings, and digests of its files."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fed_unlearn.simulations.run.folders import SCENARIO_FILE
from fed_unlearn.simulations.run.results import FILE_NAME
from fed_unlearn.text import printable

_LONGEST_VALUE = 300
_OF_SAMPLES = "sample-ids"
_OF_CLIENTS = "client"


@dataclass(frozen=True, kw_only=True)
class FolderFacts:
    """What a run folder says beside the results.

    Attributes
    ----------
    settings : list of (str, str)
        Every setting with its value, by dotted key; sample ids are counted instead.
    digests : list of (str, str)
        SHA-256 digests of files, by name.
    """

    settings: list[tuple[str, str]] = field(default_factory=list)
    digests: list[tuple[str, str]] = field(default_factory=list)


def facts_of(folder: Path, *, anonymous: bool = False) -> FolderFacts:
    """Read a run folder.

    Parameters
    ----------
    folder : Path
    anonymous : bool
        Whether settings that name clients are left out.
    """
    files = (name for name in (SCENARIO_FILE, FILE_NAME) if (folder / name).is_file())
    return FolderFacts(
        settings=list(_settings(_table_of(folder / SCENARIO_FILE), anonymous=anonymous)),
        digests=[(name, hashlib.sha256((folder / name).read_bytes()).hexdigest()) for name in files],
    )


def _table_of(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _settings(table: Mapping[str, Any], prefix: str = "", *, anonymous: bool) -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _settings(value, f"{name}.", anonymous=anonymous)
        elif isinstance(value, Sequence) and value and all(isinstance(item, Mapping) for item in value):
            for index, item in enumerate(value):
                yield from _settings(item, f"{name}.{index}.", anonymous=anonymous)
        else:
            yield printable(name), _value_text(key, value, anonymous=anonymous)


def _value_text(key: str, value: object, *, anonymous: bool) -> str:
    if key == _OF_SAMPLES:
        return f"{len(value) if isinstance(value, list) else 1} ids, not shown"
    if anonymous and key == _OF_CLIENTS:
        return "not shown"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return printable(text, _LONGEST_VALUE) or '""'
