"""Markdown of pages and model cards. Text that came from outside stays text, whatever is in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from fed_unlearn.text import printable

_LONGEST, _LONGEST_PLAIN = 80, 2000
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#|~!&$])")


def code(text: str) -> str:
    r"""A code span: neither markup, HTML nor addresses are read inside of it, and it may stand in a table.

    Parameters
    ----------
    text : str
        Any text. Unprintable characters are escaped, and what is longer than 80 characters is cut.

    Examples
    --------
    >>> print(code("a|b"), code("`x`"), code("<b>"))
    `a\|b` `` `x` `` `<b>`
    """
    shown = printable(text, _LONGEST) or " "
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    is_padded = shown.strip() and (
        shown[0] in "` " or shown[-1] in "` "
    )  # else the span would lose what is at its ends
    space = " " if is_padded else ""
    return f"{fence}{space}{shown}{space}{fence}".replace("|", "\\|")


def plain(text: str) -> str:
    r"""Words of a cell, a heading or a paragraph: each character that would mean something has a backslash.

    Unlike in :func:`code`, an address is still one where the reader's program makes links of addresses.

    Parameters
    ----------
    text : str
        Any text. Unprintable characters are escaped, and what is longer than 2000 characters is cut.

    Examples
    --------
    >>> print(plain("a_b | <c>"))
    a\_b \| \<c\>
    """
    return _SPECIAL.sub(r"\\\1", printable(text, _LONGEST_PLAIN))


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, has_numbers: bool = False) -> str:
    """A table with a line for each row. Cells are Markdown without line breaks.

    Parameters
    ----------
    headings : sequence of str
    rows : iterable of sequences of str
        As long as the headings.
    has_numbers : bool
        Whether all columns but the first stand to the right.
    """
    rules = ["---", *("---:" if has_numbers else "---" for _ in headings[1:])]
    lines = [headings, rules, *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def listed(items: Sequence[str]) -> str:
    """Items as words: ``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
