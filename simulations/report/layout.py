"""How tables and lines look in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fed_unlearn.text import printable

MOST_PRINTED = 2000
"""Greatest length of a line or a cell, in characters."""


def print_line(console: Console, text: str) -> None:
    """Print a line without colours, not broken where the terminal ends. Unprintable characters are escaped."""
    console.print(printable(text, MOST_PRINTED), markup=False, highlight=False, soft_wrap=True)


def plain_text(text: str, style: str = "") -> Text:
    """Text of a cell or a title, which may come from outside: no markup, unprintable characters escaped."""
    return Text("\n".join(printable(line, MOST_PRINTED) for line in text.split("\n")), style=style)


def plain_table(*headings: str) -> Table:
    """An empty table with bold headings and without lines. Cells that are too long are folded."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def heading_of(audit: str) -> str:
    """The name of another package's audit as a column's heading: a word a line."""
    return audit.replace("_", "\n").replace("-", "\n")
