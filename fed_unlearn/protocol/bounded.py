"""What may stand in a reply: text, lists, JSON and counts of a client, read within bounds that nothing gets past."""

from __future__ import annotations

import json
import re
from typing import Annotated, NoReturn

from pydantic import AfterValidator

from fed_unlearn.audits.base import LARGEST_COUNT, is_count
from fed_unlearn.errors import ProtocolError
from fed_unlearn.text import printable

LONGEST_NAME = 200
"""Characters of a client's id, a digest, and all other text that is compared or stored."""

LONGEST_JSON = 2**20
"""Characters of a JSON text."""

LONGEST_LIST = 2**16
"""Numbers of a list."""

DEEPEST_JSON = 4
"""Lists and objects inside each other."""

_LONGEST_NUMBER = len(str(LARGEST_COUNT))
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"?')


def is_name(text: str) -> bool:
    """Whether a text is not empty, not long, and has only characters that can be printed."""
    return 0 < len(text) <= LONGEST_NAME and text.isprintable()


def whole_count(value: object) -> int | None:
    """A count as an integer; None for anything but a whole number from 0 that fits 63 bits."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not is_count(value):
        return None
    return int(value) if value == int(value) else None


def whole_counts(value: object) -> list[int] | None:
    """A list of counts; None where something else is in it, or it is too long."""
    if not isinstance(value, list) or len(value) > LONGEST_LIST:
        return None
    counts = [whole_count(item) for item in value]
    return [count for count in counts if count is not None] if None not in counts else None


def bounded_json(text: object) -> object:
    """Read a JSON text of a client.

    Raises
    ------
    ProtocolError
        If it is no JSON text, or too long, too deep, or holds a number that is not finite or of too many digits.
    """
    if not isinstance(text, str) or len(text) > LONGEST_JSON or _depth(text) > DEEPEST_JSON:
        raise ProtocolError("a JSON text that is missing, too long or too deep")
    try:
        body: object = json.loads(text, parse_int=_number, parse_float=_refused, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("a JSON text that is malformed") from error
    return body


def counts_by_name(text: object) -> dict[str, int]:
    """Read a JSON object of counts.

    Raises
    ------
    ProtocolError
        If it is none.
    """
    body = _object(text)
    counts = {name: whole_count(value) for name, value in body.items()}
    if any(count is None for count in counts.values()):
        raise ProtocolError("a count that is no whole number from 0")
    return {name: count for name, count in counts.items() if count is not None}


def texts_by_name(text: object) -> dict[str, str]:
    """Read a JSON object of short texts, made printable.

    Raises
    ------
    ProtocolError
        If it is none.
    """
    return {name: printable(value) if isinstance(value, str) else _no_text() for name, value in _object(text).items()}


def texts(text: object) -> tuple[str, ...]:
    """Read a JSON list of short texts, made printable.

    Raises
    ------
    ProtocolError
        If it is none.
    """
    body = bounded_json(text)
    if not isinstance(body, list) or len(body) > LONGEST_LIST:
        raise ProtocolError("a list of texts that is none, or too long")
    return tuple(printable(item) if isinstance(item, str) else _no_text() for item in body)


def _object(text: object) -> dict[str, object]:
    body = bounded_json(text)
    if not isinstance(body, dict) or len(body) > LONGEST_LIST:
        raise ProtocolError("a JSON object that is none, or too large")
    return body


def _depth(text: str) -> int:
    """How deep lists and objects stand in each other; brackets in strings do not count."""
    depth = deepest = 0
    for mark in re.findall(r"[\[\]{}]", _STRING.sub("", text)):
        depth += 1 if mark in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _number(digits: str) -> int:
    if len(digits) > _LONGEST_NUMBER + 1:
        raise ValueError
    return int(digits)


def _refused(text: str) -> NoReturn:
    raise ValueError


def _no_text() -> NoReturn:
    raise ProtocolError("something that is no text")


def _named(text: str) -> str:
    if not is_name(text):
        raise ValueError(f"expected 1 to {LONGEST_NAME} printable characters")
    return text


def _short(text: str) -> str:
    if len(text) > LONGEST_NAME or (text and not text.isprintable()):
        raise ValueError(f"expected at most {LONGEST_NAME} printable characters")
    return text


Name = Annotated[str, AfterValidator(_named)]
"""A client's id."""

ShortText = Annotated[str, AfterValidator(_short)]
"""A text that is compared, and may be empty."""

CutText = Annotated[str, AfterValidator(printable)]
"""A text that is only shown: what cannot be printed is escaped, and what is too long is cut."""
