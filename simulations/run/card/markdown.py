"""Text that came from outside, made fit for Markdown: it stays text, whatever is in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from fed_unlearn.text import printable

_LONGEST = 80


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


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with a line for each row. Cells are Markdown without line breaks."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def listed(items: Sequence[str]) -> str:
    """Items as words: ``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
