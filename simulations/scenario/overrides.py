"""``--set KEY=VALUE``: a value put into a table that was read from TOML."""

from __future__ import annotations

import re
import tomllib

Table = dict[str, object]


def apply_override(table: Table, override: str) -> None:
    """Put one value into a table, in place.

    Parameters
    ----------
    table : dict
        As :mod:`tomllib` reads it; tables on the way that do not exist are made.
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
    target: object = table
    for position, part in enumerate(parts[:-1]):
        target = _step_into(target, part, ".".join(parts[:position]))
    _put(target, parts[-1], parse_value(text.strip()), ".".join(parts[:-1]))


def parse_value(text: str) -> object:
    """Value of a TOML expression; the text itself where it is none."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if parsed.keys() == {"value"} else text


def _step_into(target: object, part: str, place: str) -> object:
    if isinstance(target, dict):
        return target.setdefault(part, {})
    if isinstance(target, list):
        index = _list_index(target, part, place)
        if index == len(target):
            target.append({})
        return target[index]
    raise ValueError(f"{place} is {target!r}, which has no keys below it")


def _put(target: object, part: str, value: object, place: str) -> None:
    if isinstance(target, dict):
        target[part] = value
    elif isinstance(target, list):
        index = _list_index(target, part, place)
        target[index : index + 1] = [value]
    else:
        raise ValueError(f"{place} is {target!r}, which has no keys below it")


def _list_index(target: list[object], part: str, place: str) -> int:
    if not part.isdecimal() or int(part) > len(target):
        raise ValueError(f"{part!r} is no entry of {place}; expected a number from 0 to {len(target)}")
    return int(part)
