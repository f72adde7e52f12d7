"""``--set KEY=VALUE``: a value put into a table that was read from TOML."""

from __future__ import annotations

import re

from fed_unlearn.simulations.scenario.reading import MAX_DEPTH, Table, parse_value
from fed_unlearn.text import printable, quoted

_DIGITS = 9
"""Greatest number of digits of a list's index."""


def apply_override(table: Table, override: str) -> None:
    """Put one value into a table, in place.

    Parameters
    ----------
    table : dict
        The table as :mod:`tomllib` reads it; tables on the way that do not exist are made.
    override : str
        ``KEY=VALUE``. The key's parts are joined by dots, entries of a list are numbered from 0:
        ``timeline.2.forget.class`` or ``timeline[2].forget.class``; the number after the last adds an entry.
        The value is in TOML syntax; what is not is taken as a string.

    Raises
    ------
    ValueError
        If there is no key or no value, or the key leads into something that is no table.
    """
    key, separator, text = override.partition("=")
    parts = re.sub(r"\[(\d+)\]", r".\1", key.strip()).split(".")
    if not separator or not all(parts):
        raise ValueError("expected KEY=VALUE, such as clients.count=5")
    if len(parts) > MAX_DEPTH:
        raise ValueError(f"the key has {len(parts)} parts; expected at most {MAX_DEPTH}")
    target: object = table
    for position, part in enumerate(parts[:-1]):
        target = _step_into(target, part, ".".join(parts[:position]))
    _put(target, parts[-1], parse_value(text.strip()), ".".join(parts[:-1]))


def _step_into(target: object, part: str, place: str) -> object:
    if isinstance(target, dict):
        return target.setdefault(part, {})
    if isinstance(target, list):
        index = _list_index(target, part, place)
        if index == len(target):
            target.append({})
        return target[index]
    raise ValueError(f"{printable(place)} is {quoted(target)}, which has no keys below it")


def _put(target: object, part: str, value: object, place: str) -> None:
    if isinstance(target, dict):
        target[part] = value
    elif isinstance(target, list):
        index = _list_index(target, part, place)
        target[index : index + 1] = [value]
    else:
        raise ValueError(f"{printable(place)} is {quoted(target)}, which has no keys below it")


def _list_index(target: list[object], part: str, place: str) -> int:
    if not part.isdecimal() or len(part) > _DIGITS or int(part) > len(target):
        raise ValueError(f"{quoted(part)} is no entry of {printable(place)}; expected a number from 0 to {len(target)}")
    return int(part)
