"""Text that came from outside, made fit for a terminal, a log or an error message."""

_ELLIPSIS = "..."
_PRINTED = 200
_SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str, limit: int = _PRINTED) -> str:
    r"""Escape what cannot be printed, and cut what is too long.

    Control characters, bidirectional overrides, surrogates and all other characters that `str.isprintable` refuses
    are written as in a Python string: ``\n``, ``\x1b``, ``\u202e``. Printable characters stay, a backslash too.

    Parameters
    ----------
    text : str
        Text of any length, from a message, a file or the command line.
    limit : int
        Greatest length of the result in characters, at least 0. Longer text ends in ``...``. An escape is never cut
        in two.

    Returns
    -------
    str
        Printable text of at most `limit` characters.

    Examples
    --------
    >>> print(printable("\x1b[31mred"))
    \x1b[31mred
    >>> printable("a" * 1000, limit=8)
    'aaaaa...'
    """
    pieces = [character if character.isprintable() else _escaped(character) for character in text[: limit + 1]]
    whole = "".join(pieces)
    if len(whole) <= limit and len(text) <= limit:
        return whole
    ellipsis = _ELLIPSIS[:limit]
    room = limit - len(ellipsis)
    length = len(whole)
    while length > room:
        length -= len(pieces.pop())
    return "".join(pieces) + ellipsis


def quoted(value: object, limit: int = _PRINTED) -> str:
    """Write a value as Python would, for an error message that says what was given.

    Parameters
    ----------
    value : object
        The value to write, for instance what stood in a file or in an argument.
    limit : int
        Greatest length of the result in characters, at least 2.

    Returns
    -------
    str
        Printable text of at most `limit` characters. A string stands in quotes, and is cut inside of them.

    Examples
    --------
    >>> print(quoted("many"), quoted(["a", 1.5]), quoted("a" * 1000, limit=10))
    'many' ['a', 1.5] 'aaaaa...'
    """
    if isinstance(value, str):
        mark = '"' if "'" in value and '"' not in value else "'"
        return f"{mark}{printable(value, limit - 2)}{mark}"
    try:
        return printable(repr(value), limit)
    except RecursionError:
        return printable("a value that is nested too deeply", limit)
    except ValueError:  # integers of more than 4,300 digits are not written
        return printable("a number of too many digits", limit)


def _escaped(character: str) -> str:
    if character in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[character]
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
