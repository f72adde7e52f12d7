"""The values of a scenario by dotted key, and what differs between two of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

_DIGEST = "#"
_LONGEST_VALUE, _MOST_TOLD = 100, 3


def values_of(table: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """The values of a table by dotted key; longer ones, which may name clients and samples, as a digest.

    Parameters
    ----------
    table : mapping of str to object
        The table as :mod:`tomllib` reads it.
    prefix : str
        What stands before every key.
    """
    values: dict[str, str] = {}
    for key, value in table.items():
        if isinstance(value, dict) and value:
            values |= values_of(value, f"{prefix}{key}.")
            continue
        text = json.dumps(value, sort_keys=True, default=str)
        is_long = isinstance(value, list | dict) or len(text) > _LONGEST_VALUE
        values[prefix + key] = f"{_DIGEST}{digest_of_values(text)}" if is_long else text
    return values


def digest_of_values(value: object) -> str:
    """SHA-256, in hexadecimal, of what JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def changed_keys(before: Mapping[str, str], now: Mapping[str, str], *, same_version: bool = True) -> list[str]:
    """The keys whose values differ, sorted.

    Parameters
    ----------
    before, now : mapping of str to str
        What :func:`values_of` gave.
    same_version : bool
        Whether one version of the library wrote both. If not, keys that only one of them has do not count.
    """
    keys = before.keys() | now.keys() if same_version else before.keys() & now.keys()
    return [key for key in sorted(keys) if before.get(key) != now.get(key)]


def told_changes(keys: Sequence[str], before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Say what the first of some keys were and are, and how many more there are."""
    told = "; ".join(f"{key} {_change(before.get(key), now.get(key))}" for key in keys[:_MOST_TOLD])
    return told + (f"; and {len(keys) - _MOST_TOLD} more" if len(keys) > _MOST_TOLD else "")


def _change(before: str | None, now: str | None) -> str:
    if before is None or now is None:
        return "is new" if before is None else "is missing"
    return "has changed" if _DIGEST in (before[:1], now[:1]) else f"is {now} and was {before}"
