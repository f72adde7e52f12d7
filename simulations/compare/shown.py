"""How the tables of a comparison read: its cells as text, its titles and its notes, the same in every format."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from fed_unlearn.simulations.compare.figures import Better
from fed_unlearn.simulations.compare.tables import Comparison, FigureTable, Row

HEADINGS = ("method", "n", "mean", "sd", "difference", "interval", "p", "rank")
"""Columns of the table of a figure."""

NONE = "-"
_LEAST_P = 0.001
_FEW_SEEDS = 10


@dataclass(frozen=True)
class Group:
    """The tables of one scenario and one scope.

    Attributes
    ----------
    scenario, scope : str
    tables : tuple of FigureTable
    """

    scenario: str
    scope: str
    tables: tuple[FigureTable, ...]

    @property
    def title(self) -> str:
        """The heading over its tables."""
        return f"{self.scenario}, {self.scope} requests"


def groups_of(comparison: Comparison) -> Iterator[Group]:
    """The tables by scenario and scope, in their order."""
    for (scenario, scope), tables in itertools.groupby(comparison.tables, key=lambda item: (item.scenario, item.scope)):
        yield Group(scenario, scope, tuple(tables))


def title_of(table: FigureTable) -> str:
    """The heading of a figure: its name, what it is, and which values are better."""
    return f"{table.figure.name}: {table.figure.title}; {table.better}"


def test_line(table: FigureTable) -> str:
    """What the Friedman test says, if it was made."""
    if table.friedman is None:
        return ""
    few = f", approximate below {_FEW_SEEDS} seeds" if table.ranked_seeds < _FEW_SEEDS else ""
    return f"Friedman test over {table.ranked_seeds} seeds: p {p_text(table.friedman.p, equals=True)}{few}"


def cells_of(table: FigureTable, row: Row) -> tuple[str, ...]:
    """The cells of a row, as the columns of :data:`HEADINGS`."""
    decimals, difference = table.figure.decimals, row.difference
    more = min(decimals, 3) if decimals else 0
    return (
        row.method + ("*" if row.keeps_others else ""),
        str(row.spread.n) if row.spread.n == row.runs else f"{row.spread.n}/{row.runs}",
        number(row.spread.mean, decimals),
        number(row.spread.deviation, decimals),
        NONE if difference is None else signed(difference.mean, more),
        NONE if difference is None else _interval(difference.low, difference.high, more),
        NONE if difference is None or difference.adjusted_p is None else p_text(difference.adjusted_p),
        NONE if row.rank is None else f"{row.rank:.1f}",
    )


def number(value: float | None, decimals: int) -> str:
    """A number with so many decimals, and with commas between thousands; ``-`` where there is none."""
    if value is None:
        return NONE
    text = f"{value:,.{decimals}f}"
    return text if _has_digits(text) else text.lstrip("-")


def signed(value: float, decimals: int) -> str:
    """A number with its sign; none where it is rounded to zero."""
    text = f"{value:+,.{decimals}f}"
    return text if _has_digits(text) else text[1:]


def p_text(value: float, *, equals: bool = False) -> str:
    """A p-value with three decimals, or that it is below 0.001."""
    return f"< {_LEAST_P}" if value < _LEAST_P else f"{'= ' if equals else ''}{value:.3f}"


def _has_digits(text: str) -> bool:
    """Whether a number is not rounded to zero."""
    return any(digit in text for digit in "123456789")


def _interval(low: float | None, high: float | None, decimals: int) -> str:
    return "one seed" if low is None or high is None else f"[{signed(low, decimals)}, {signed(high, decimals)}]"


def notes_of(comparison: Comparison) -> list[str]:
    """What the columns are, and what has to be known of methods and runs; a sentence or two each."""
    rows = [row for table in comparison.tables for row in table.rows]
    differences = [row.difference for row in rows if row.difference is not None]
    percent = f"{100 * comparison.level:g} %"
    notes = [
        "mean and sd: over n seeds, sd with n - 1; a run's figure is the mean over its requests (worst_relapse: the"
        " largest)."
    ]
    if any(row.spread.n != row.runs for row in rows):
        notes.append("n is 4/5 where one of five seeds has no figure: its run failed, is not complete or is missing.")
    if differences:
        comparisons = max(sum(row.difference is not None for row in table.rows) for table in comparison.tables)
        notes += [
            f"difference: the method minus {comparison.baseline}, over the seeds that both have, with the {percent}"
            " t-interval of the paired t-test, which is not adjusted.",
            f"p: two-sided, of the same test, adjusted by Holm for the comparisons with the baseline within a figure"
            f" (up to {comparisons}); figures, scopes and scenarios are not adjusted for each other.",
        ]
    if any(item.is_constant for item in differences):
        notes.append("Where the difference is the same at every seed, the interval is a point and there is no p.")
    if any(item.n == 1 for item in differences) or any(row.spread.n == 1 for row in rows):
        notes.append("One seed has no deviation, no interval and no p.")
    if any(row.rank is not None for row in rows):
        notes.append("rank: mean over the seeds that all methods have; 1 is best, and equal values share their ranks.")
    if any(table.better is Better.ORACLE for table in comparison.tables):
        notes.append(
            "Nearest to the oracle: ranked by the mean over requests of the absolute difference to the retrain oracle."
        )
    if any(row.keeps_others for row in rows):
        notes.append("* Some or all of these requests are served by the scenario's own methods:")
    return [*notes, *comparison.kept]
