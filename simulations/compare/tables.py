"""The tables of a comparison: methods by scenarios by seeds, whatever they are written as."""

from __future__ import annotations

from dataclasses import dataclass

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.requests import SCOPES
from fed_unlearn.simulations.compare.figures import Better, Figure
from fed_unlearn.simulations.compare.statistics import Difference, Friedman, Spread
from fed_unlearn.text import quoted


@dataclass(frozen=True, kw_only=True)
class CompareSettings:
    """What of some runs is compared, and how.

    Attributes
    ----------
    figures : tuple of str
        Names of figures; the default ones where there are none, and all but times for ``all``.
    scopes : tuple of str
        Scopes of requests; where there are none, those that a method of a sweep serves, or all.
    baseline : str or None
        The method that others are compared with; the first where None.
    level : float
        Level of the intervals, in (0, 1).
    """

    figures: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    baseline: str | None = None
    level: float = 0.95

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise InvalidParameterError(f"level = {self.level:g}; expected a number between 0 and 1, such as 0.95")
        if unknown := [scope for scope in self.scopes if scope not in SCOPES]:
            raise InvalidParameterError(f"scope {quoted(unknown[0])}: expected {', '.join(SCOPES)}")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method in the table of a figure.

    Attributes
    ----------
    method : str
    runs : int
        Number of runs that it should have: the seeds of the scenario.
    keeps_others : bool
        Whether some requests of the scope are served by the scenario's own methods.
    spread : Spread
    difference : Difference or None
        To the baseline; None for the baseline itself, and without a common seed.
    rank : float or None
        Mean rank over the seeds that all methods have.
    """

    method: str
    runs: int
    keeps_others: bool
    spread: Spread
    difference: Difference | None
    rank: float | None


@dataclass(frozen=True, kw_only=True)
class FigureTable:
    """The table of one figure.

    Attributes
    ----------
    scenario, scope : str
    figure : Figure
    better : Better
    rows : tuple of Row
        One for each method.
    ranked_seeds : int
        Number of seeds that ranks are over.
    friedman : Friedman or None
    """

    scenario: str
    scope: str
    figure: Figure
    better: Better
    rows: tuple[Row, ...]
    ranked_seeds: int
    friedman: Friedman | None


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """One figure of one run.

    Attributes
    ----------
    scenario, method : str
    seed : int
    scope, figure : str
    value : float or None
    requests, of : int
        Number of requests that have the figure, and of all of the scope.
    """

    scenario: str
    method: str
    seed: int
    scope: str
    figure: str
    value: float | None
    requests: int
    of: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A whole comparison.

    Attributes
    ----------
    baseline : str
    level : float
    tables : tuple of FigureTable
    run_rows : tuple of RunRow
    problems : tuple of str
        What is missing, failed, found twice, or in doubt.
    kept : tuple of str
        Which methods leave which requests to the scenario's own.
    """

    baseline: str
    level: float
    tables: tuple[FigureTable, ...]
    run_rows: tuple[RunRow, ...]
    problems: tuple[str, ...]
    kept: tuple[str, ...]
