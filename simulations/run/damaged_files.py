"""Files of results that somebody has edited or cut: what is wrong with them, in plain words."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from fed_unlearn.text import quoted

_MISSING = re.compile(r"missing \d+ required .*arguments?: (.*)", re.DOTALL)
_UNKNOWN = re.compile(r"got an unexpected keyword argument '(.*)'", re.DOTALL)


class DamagedFileError(ValueError):
    """Raised if a file of results is no JSON, or holds a number that is none. The text begins with a verb."""


def finite_json(content: bytes) -> Any:
    """Read JSON whose numbers are all finite.

    Parameters
    ----------
    content : bytes
        The whole file.

    Raises
    ------
    DamagedFileError
        If it is something else.
    """
    if not content.strip():
        raise DamagedFileError("is empty")
    try:
        body = json.loads(content.decode())
        place = next(_not_finite(body), None)
    except UnicodeDecodeError:
        raise DamagedFileError("is damaged: it is no text in UTF-8") from None
    except json.JSONDecodeError as error:
        raise DamagedFileError(f"is damaged: it is no JSON from line {error.lineno}, column {error.colno} on") from None
    except (RecursionError, ValueError):  # a number of thousands of digits is a ValueError
        raise DamagedFileError("is damaged: it is nested too deeply, or has a number that is too long") from None
    if place is not None:
        raise DamagedFileError(f"is damaged: {quoted(place)} is no finite number")
    return body


def fault_in_words(error: Exception) -> str:
    """What is wrong with a file, after its name.

    Parameters
    ----------
    error : Exception
        What was raised when it was read, or when objects were made of its content.
    """
    if isinstance(error, DamagedFileError):
        return str(error)
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    return f"not the results of this version of fed_unlearn: {_field_fault(error)}"


def _field_fault(error: Exception) -> str:
    if isinstance(error, KeyError) and error.args:
        return f"field {quoted(error.args[0])} is missing"
    if (missing := _MISSING.search(str(error))) is not None:
        several = " and " in missing[1]
        return f"field{'s' * several} {missing[1]} {'are' if several else 'is'} missing"
    if (unknown := _UNKNOWN.search(str(error))) is not None:
        return f"field {quoted(unknown[1])} is unknown"
    return "a field holds something else than expected"


def _not_finite(value: Any, place: str = "") -> Iterator[str]:
    """Where numbers stand that are not finite, or too large for one, such as ``requests[0].seconds``."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _not_finite(item, f"{place}.{key}" if place else key)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _not_finite(item, f"{place}[{number}]")
    elif isinstance(value, int | float):
        try:
            is_finite = math.isfinite(value)
        except OverflowError:
            is_finite = False
        if not is_finite:
            yield place
