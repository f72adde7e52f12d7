"""Tables without lines, as listings print them."""

from __future__ import annotations

from rich.table import Table


def plain_table(*headings: str) -> Table:
    """An empty table with bold headings, without lines; cells that are too long are folded."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
