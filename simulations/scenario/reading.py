"""TOML as it is read from a file or an argument: only what a scenario can hold passes."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.text import printable, quoted

Table = dict[str, object]

MAX_BYTES = 1_000_000
"""Greatest size of a scenario file."""
MAX_DEPTH = 32
"""Maximum depth of nested tables and lists."""

_INTEGERS = range(-(2**63), 2**63)


def read_table(path: Path) -> Table:
    """Read a TOML file.

    Parameters
    ----------
    path : Path
        A file of at most a megabyte.

    Returns
    -------
    dict
        The table. Its integers have 64 bits, and tables and lists are nested at most 32 deep.

    Raises
    ------
    InvalidParameterError
        If the file cannot be read, is no TOML, or holds what is not allowed. The message has no file's name.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidParameterError(f"not a readable file: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise InvalidParameterError(f"has more than {MAX_BYTES:,} bytes; expected a scenario")
    try:
        table = _parsed(content.decode())
    except UnicodeDecodeError as error:
        raise InvalidParameterError(f"not a readable TOML file: byte {error.start} is no UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidParameterError(f"not a readable TOML file: {printable(str(error))}") from None
    return table


def parse_value(text: str) -> object:
    """Value of a TOML expression; the text itself where it is none.

    Raises
    ------
    InvalidParameterError
        If it is one that no scenario can hold: see :func:`read_table`.
    """
    try:
        parsed = _parsed(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if parsed.keys() == {"value"} else text


def _parsed(text: str) -> Table:
    too_deep = f"tables or lists stand more than {MAX_DEPTH} levels deep; expected fewer"
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise InvalidParameterError(too_deep) from None
    except ValueError:  # of int()
        digits = sys.get_int_max_str_digits()
        raise InvalidParameterError(f"a number has more than {digits} digits; expected an integer of 64 bits") from None
    level: list[tuple[str, object]] = list(table.items())
    for _ in range(MAX_DEPTH):
        level = [below for place, value in level for below in _inside(place, value)]
    if level:
        raise InvalidParameterError(too_deep)
    return table


def _inside(place: str, value: object) -> list[tuple[str, object]]:
    if isinstance(value, dict):
        return [(f"{place}.{key}", item) for key, item in value.items()]
    if isinstance(value, list):
        return [(f"{place}[{number}]", item) for number, item in enumerate(value)]
    if isinstance(value, int) and value not in _INTEGERS:
        raise InvalidParameterError(f"{printable(place)}: {quoted(value)} was given; expected an integer of 64 bits")
    return []
