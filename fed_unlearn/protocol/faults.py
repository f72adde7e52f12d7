"""What may be told of an error: its kind, and what is missing by name. Texts of errors may hold data of a client."""

from __future__ import annotations

import re

from fed_unlearn.text import printable

_NAME = r"(?=[\w.-]{1,64}(?!\w))[^\W\d][\w.-]*"
_MANY_DIGITS = re.compile(r"\d{3}")
_OF_MISSING_NAMES = {
    "AttributeError": re.compile(
        rf"(?:(?:module|type object) )?'(?P<owner>{_NAME})' (?:object )?has no attribute '(?P<name>{_NAME})'"
    ),
    "FileNotFoundError": re.compile(rf".*?'(?:.*[/\\])?(?P<name>{_NAME})'", re.S),
    "ImportError": re.compile(rf"cannot import name '(?P<name>{_NAME})' from (?:partially initialized module )?"
                              rf"'(?P<owner>{_NAME})'"),
    "KeyError": re.compile(rf"'(?P<name>{_NAME})'$"),
    "ModuleNotFoundError": re.compile(rf"No module named '(?P<name>{_NAME})'"),
    "NameError": re.compile(rf"name '(?P<name>{_NAME})' is not defined"),
    "UnboundLocalError": re.compile(rf"cannot access local variable '(?P<name>{_NAME})'"),
}  # fmt: skip
_WORDS = {
    "AttributeError": "'{owner}' has no attribute '{name}'",
    "ImportError": "cannot import name '{name}' from '{owner}'",
    "ModuleNotFoundError": "No module named '{name}'",
    "NameError": "name '{name}' is not defined",
}

_OF_FLOWER = re.compile(r"\s*<class '(?P<kind>[^']{1,200})'>:<'(?P<text>.*)", re.S)
_OF_RAY = re.compile(r"Exception ClientAppException occurred\. Message: (?P<text>.*)", re.S)
_OF_THE_LIBRARY = re.compile(r"(?:query|train|evaluate)(?:\.\w+)?: .*", re.S)
_TRACEBACK = "Traceback (most recent call last):"
_LINE = re.compile(r"(?P<kind>(?:[^\W\d]\w*\.)*[A-Z]\w*)(?:: (?P<text>.*))?", re.S)


def told_of(kind: str, text: str) -> str:
    """The kind of an error; with the name of what is missing where the error is about one.

    Parameters
    ----------
    kind : str
        Name of the error's class.
    text : str
        Text of the error. Of it only a name of a variable, attribute, module, key or file is told: letters, at most two
        digits in a row, ``_``, ``-`` and ``.``; of a path its last part.
    """
    missing = _OF_MISSING_NAMES.get(kind)
    found = missing.match(text) if missing is not None else None
    if found is None or any(_MANY_DIGITS.search(name) for name in found.groupdict().values()):
        return kind
    return printable(f"{kind}: {_WORDS.get(kind, repr(found['name'])).format(**found.groupdict())}")


def error_line(reason: str) -> str:
    """The part of a runtime's reason that names the error, ``KIND: TEXT`` on one line; the last line where none does.

    Parameters
    ----------
    reason : str
        The runtime's reason, for instance ``"<class 'KeyError'>:<'...'>"``, ``"KeyError: ..."`` or a whole traceback.
        The text may have several lines, of which the last is no error by itself.
    """
    flowers, rays = _OF_FLOWER.fullmatch(reason), _OF_RAY.search(reason)
    if rays is not None:
        text = _one_line(rays["text"]).removesuffix("'>").strip()
        return text if _OF_THE_LIBRARY.fullmatch(text) else f"ClientAppException: {text}"
    if flowers is not None and _TRACEBACK not in flowers["text"]:
        kind, text = flowers["kind"].rpartition(".")[2], _one_line(flowers["text"]).removesuffix("'>")
        return f"{kind}: {text}"
    _, traceback, rest = reason.rpartition(_TRACEBACK)
    lines = [line for line in rest.splitlines() if line.strip(" \t'>")]
    if traceback:
        return next((line.strip() for line in lines if not line[0].isspace()), "")
    if lines and _LINE.fullmatch(lines[0].strip()):
        return _one_line(reason)
    return lines[-1].strip() if lines else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())
