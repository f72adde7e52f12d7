"""The tables of a comparison as files: Markdown, LaTeX, HTML and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fed_unlearn.checkpoints import write_atomically
from fed_unlearn.simulations import markdown
from fed_unlearn.simulations.compare.escaping import latex, latex_number
from fed_unlearn.simulations.compare.shown import HEADINGS, Group, cells_of, groups_of, notes_of, test_line, title_of
from fed_unlearn.simulations.compare.tables import Comparison, FigureTable, Row
from fed_unlearn.text import printable

if TYPE_CHECKING:
    from jinja2 import Environment

COLUMNS = (
    *("scenario", "scope", "figure", "better", "method", "n", "mean", "standard_deviation"),
    *("baseline", "common_seeds", "difference", "level", "interval_low", "interval_high", "p", "p_holm"),
    *("mean_rank", "ranked_seeds", "friedman_statistic", "friedman_p"),
)
"""Columns of the CSV file: a row for each scenario, scope, figure and method."""

RUN_COLUMNS = ("scenario", "method", "seed", "scope", "figure", "value", "requests", "of_requests")
"""Columns of the CSV file of runs: a row for each run, scope and figure."""

_MOST = 2000
_LINES_OF_A_PAGE, _LINES_OF_A_FIGURE = 42, 4  # a figure's name and its test take up to two lines each


def markdown_text(comparison: Comparison) -> str:
    """The tables in Markdown, as GitHub reads it."""
    lines: list[str] = []
    for group in groups_of(comparison):
        lines += [f"## {markdown.plain(group.title)}", ""]
        for table in group.tables:
            lines += [f"**{markdown.plain(title_of(table))}**", ""]
            rows = [[markdown.plain(text) for text in cells_of(table, row)] for row in table.rows]
            lines += [markdown.table(HEADINGS, rows, has_numbers=True)]
            lines += ["", *([markdown.plain(line), ""] if (line := test_line(table)) else [])]
    lines += [text for note in notes_of(comparison) for text in (markdown.plain(note), "")]
    if comparison.problems:
        lines += [
            "## What is missing or in doubt",
            "",
            *(f"- {markdown.plain(item)}" for item in comparison.problems),
            "",
        ]
    return "\n".join(lines)


def latex_text(comparison: Comparison) -> str:
    """The tables in LaTeX, with the rules of booktabs, each on at most a page, and the notes below."""
    return _filled("table.tex.jinja", comparison, _latex_environment())


def _floats(group: Group) -> list[tuple[str, list[FigureTable]]]:
    """The tables of a group that stand on one page together, and what is said of it in the caption."""
    parts: list[list[FigureTable]] = []
    room = 0
    for table in group.tables:
        lines = len(table.rows) + _LINES_OF_A_FIGURE
        if lines > room or not parts:
            parts.append([])
            room = _LINES_OF_A_PAGE
        parts[-1].append(table)
        room -= lines
    return [(f" ({number} of {len(parts)})" * (len(parts) > 1), part) for number, part in enumerate(parts, start=1)]


def html_text(comparison: Comparison) -> str:
    """The tables as a page of HTML that needs nothing else."""
    return _filled("table.html.jinja", comparison, _html_environment())


def csv_text(comparison: Comparison) -> str:
    """The numbers of the tables at full precision, tidy; see :data:`COLUMNS`. What there is not is empty."""
    return _csv(COLUMNS, (_values(comparison, table, row) for table in comparison.tables for row in table.rows))


def runs_csv_text(comparison: Comparison) -> str:
    """The figures of each run at full precision, tidy; see :data:`RUN_COLUMNS`."""
    rows = (
        (row.scenario, row.method, row.seed, row.scope, row.figure, row.value, row.requests, row.of)
        for row in comparison.run_rows
    )
    return _csv(RUN_COLUMNS, rows)


FORMATS: Mapping[str, Callable[[Comparison], str]] = {
    "markdown": markdown_text,
    "csv": csv_text,
    "latex": latex_text,
    "html": html_text,
    "runs_csv": runs_csv_text,
}
"""What writes a comparison, by the name of the format."""


def write_comparison(comparison: Comparison, places: Mapping[str, Path]) -> None:
    """Write a comparison into files, each in one step. Files that are there are replaced.

    Parameters
    ----------
    comparison : Comparison
    places : mapping of str to Path
        Files by the name of their format, as :data:`FORMATS` has them. Their folders must exist.
    """
    texts = {path: FORMATS[name](comparison) for name, path in places.items()}
    for path, text in texts.items():
        write_atomically(path, text.encode())


def _values(comparison: Comparison, table: FigureTable, row: Row) -> tuple[object, ...]:
    difference = row.difference
    compared: tuple[object, ...] = (None,) * 8
    if difference is not None:
        compared = (
            *(comparison.baseline, difference.n, difference.mean, comparison.level),
            *(difference.low, difference.high, difference.p, difference.adjusted_p),
        )
    test = table.friedman
    return (
        *(table.scenario, table.scope, table.figure.name, str(table.better), row.method),
        *(row.spread.n, row.spread.mean, row.spread.deviation, *compared),
        *(row.rank, table.ranked_seeds, None if test is None else test.statistic, None if test is None else test.p),
    )


def _csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([printable(cell, _MOST) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return text.getvalue()


def _filled(template: str, comparison: Comparison, environment: Environment) -> str:
    environment.globals |= {"cells_of": cells_of, "title_of": title_of, "test_line": test_line}
    return environment.get_template(template).render(
        groups=list(groups_of(comparison)),
        headings=HEADINGS,
        notes=notes_of(comparison),
        problems=list(comparison.problems),
    )


def _html_environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("fed_unlearn.simulations.compare", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: printable(value, _MOST) if type(value) is str else value,
    )


def _latex_environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fed_unlearn.simulations.compare", ""),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
    )
    environment.filters |= {"latex": latex, "latex_number": latex_number, "floats": _floats}
    return environment
