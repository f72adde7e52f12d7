"""How tables and lines look in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table


def print_line(console: Console, text: str) -> None:
    """Print a line as it is: without colours, and not broken where the terminal ends."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def plain_table(*headings: str) -> Table:
    """An empty table with bold headings and without lines. Cells that are too long are folded."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def heading_of(audit: str) -> str:
    """The name of another package's audit as a column's heading: a word a line."""
    return audit.replace("_", "\n").replace("-", "\n")
