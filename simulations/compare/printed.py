"""The tables of a comparison on a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from fed_unlearn.simulations.compare.shown import HEADINGS, cells_of, groups_of, notes_of, test_line, title_of
from fed_unlearn.simulations.compare.tables import Comparison, FigureTable
from fed_unlearn.simulations.report.layout import plain_text, print_line

MOST_PROBLEMS = 20
"""Problems that are printed; the files have all."""

_LEAST_WIDTH = 12
_GAP = 2


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print a table for each figure, then the notes and what is missing.

    Parameters
    ----------
    comparison : Comparison
    console : Console
        A console of rich, at least 80 columns wide.
    """
    for group in groups_of(comparison):
        console.print(plain_text(group.title, "bold"))
        widest = _widths([cells_of(table, row) for table in group.tables for row in table.rows])
        for table in group.tables:
            console.print(plain_text(title_of(table), "italic"))
            console.print(_table_of(table, widest, console.width), crop=False, overflow="ignore")
            if line := test_line(table):
                console.print(plain_text(line, "dim"))
            console.print()
    for note in notes_of(comparison):
        print_line(console, note)
    print_problems(comparison.problems, console)


def print_problems(problems: Sequence[str], console: Console) -> None:
    """Print what is missing or in doubt, a line each."""
    for problem in problems[:MOST_PROBLEMS]:
        print_line(console, problem)
    if len(problems) > MOST_PROBLEMS:
        print_line(console, f"and {len(problems) - MOST_PROBLEMS} more, which files have: --markdown, --html")


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(text) for text in column) for column in zip(HEADINGS, *rows, strict=True)]


def _broken(method: str, width: int) -> str:
    """A method's name in lines of a width, broken behind ``/`` and ``+``, and in parts that are longer behind ``-``."""
    parts = [
        piece
        for part in re.findall(r"[^/+]*[/+]*", method)
        for piece in ([part] if len(part) <= width else re.findall(r"[^-]*-?", part))
    ]
    lines = [""]
    for part in parts:
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _table_of(table: FigureTable, widths: Sequence[int], console_width: int) -> Table:
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False, show_edge=False, header_style="dim")
    first_width = max(_LEAST_WIDTH, console_width - sum(width + _GAP for width in widths[1:]))
    for place, (heading, width) in enumerate(zip(HEADINGS, widths, strict=True)):
        if place:
            shown.add_column(heading, justify="right", no_wrap=True, min_width=width)
        else:
            shown.add_column(heading, overflow="fold", min_width=min(width, first_width))
    for row in table.rows:
        method, *cells = cells_of(table, row)
        shown.add_row(plain_text(_broken(method, first_width)), *map(plain_text, cells))
    return shown
