"""What an app is run with, checked before it runs: overrides of its config, and the connection."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.text import quoted

_NAME_ONE = "write the connection to your SuperLink there, or name one by --superlink (FLWR_HOME is its folder)"
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def app_settings(items: Sequence[str], config: Mapping[str, object]) -> dict[str, object]:
    """Values that override an app's config, by the dotted keys that Flower gives them.

    Parameters
    ----------
    items : sequence of str
        Settings, each as ``KEY=VALUE`` in TOML. The key may be dotted. Of two values of a key the last counts.
    config : mapping
        The app's ``[tool.flwr.app.config]``. Flower takes no key that it lacks.

    Raises
    ------
    InvalidParameterError
        If an item cannot be read, has a value that Flower does not take, or the app has no such key.
    """
    known = {".".join(path) for path, _ in _leaves(config)}
    settings: dict[str, object] = {}
    for item in items:
        expected = f"-c {quoted(item)}: expected KEY=VALUE with a value in TOML, such as rounds=3 or name='x'"
        try:
            given = tomllib.loads(item)
        except tomllib.TOMLDecodeError as error:
            raise InvalidParameterError(expected) from error
        if not given:
            raise InvalidParameterError(expected)
        for path, value in _leaves(given):
            key = ".".join(path)
            if not all(_BARE.fullmatch(part) for part in path):
                raise InvalidParameterError(
                    f"-c {quoted(item)}: the key {quoted(key)} has other characters than letters, digits, - and _,"
                    " which flwr run does not take"
                )
            if not isinstance(value, bool | int | float | str):
                raise InvalidParameterError(
                    f"-c {quoted(item)}: the value of {key} is no text, number, true or false, as Flower expects it"
                )
            if key not in known:
                there = f"it has {', '.join(sorted(known))}" if known else "it has none"
                raise InvalidParameterError(f"-c {quoted(item)}: the app's config has no key {key}; {there}")
            settings[key] = value
    return settings


def check_connection(name: str | None) -> None:
    """Raise if the ``config.toml`` of Flower's home has no such connection to a SuperLink.

    Parameters
    ----------
    name : str or None
        The connection; the default one where None.

    Raises
    ------
    InvalidParameterError
        The message names those that are there. Flower's simulation on this machine, which is the default of a new
        Flower home, has to be named: nobody is to serve it for want of a setting.
    """
    file = Path(os.environ.get("FLWR_HOME") or "~/.flwr").expanduser() / "config.toml"
    if not file.is_file():
        if name is None:
            raise InvalidParameterError(f"{file}: is not there, and without it Flower simulates; {_NAME_ONE}")
        return
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8")).get("superlink", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidParameterError(f"{file}: cannot be read as TOML: {error}") from error
    if not isinstance(table, dict):
        raise InvalidParameterError(f"{file}: superlink is no table of connections")
    there = [key for key, value in table.items() if isinstance(value, dict)]
    wanted = table.get("default") if name is None else name
    if wanted is None:
        raise InvalidParameterError(f"{file}: names no default connection; give --superlink NAME, of {_listed(there)}")
    if wanted not in there:
        raise InvalidParameterError(f"{file}: has no connection {quoted(str(wanted))}; it has {_listed(there)}")
    if name is None and str(table[wanted].get("address", "")).startswith(":"):
        raise InvalidParameterError(
            f"{file}: its default connection {quoted(str(wanted))} is Flower's simulation on this machine; {_NAME_ONE}"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _leaves(table: Mapping[str, object], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """The values of a table and of the tables in it, each with its keys."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value
