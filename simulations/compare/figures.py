"""The figures of a comparison: what each is of a request, and which values of it are better."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from fed_unlearn.audits.base import Figures
from fed_unlearn.figure_numbers import finite_number
from fed_unlearn.figure_words import figure_title
from fed_unlearn.simulations.run.results import RequestResult, RunResults
from fed_unlearn.strategies.worn_off import is_commit_of

Values = Callable[[RunResults, RequestResult], float | None]


class Better(StrEnum):
    """Which values of a figure are better, in words."""

    LOWER = "lower is better"
    HIGHER = "higher is better"
    ORACLE = "nearest to the oracle is better"
    HALF = "nearest to 0.5 is better"
    NONE = "not ranked: no value is better in itself; --oracle would say"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure of a run: the mean of its values over the requests of a scope.

    Attributes
    ----------
    name : str
    title : str
        What it is, in words.
    value : callable
        Its value for a request of a run; None where there is none.
    better : Better
        Which values are better where an oracle does not say.
    follows_oracle : bool
        Whether, with an oracle, values near the oracle's are better.
    decimals : int
        Number of decimals that tables show.
    worst : bool
        Whether the largest value of a run's requests is taken in place of their mean.
    """

    name: str
    title: str
    value: Values
    better: Better = Better.NONE
    follows_oracle: bool = False
    decimals: int = 3
    worst: bool = False

    def of_run(self, results: RunResults, scope: str) -> RunValue:
        """The figure of a run."""
        requests = [request for request in results.requests if request.scope == scope]
        values = _numbers(self.value(results, request) for request in requests)
        combined = (max(values) if self.worst else math.fsum(values) / len(values)) if values else None
        return RunValue(combined, len(values), len(requests))

    def score(self, results: RunResults, scope: str, better: Better) -> float | None:
        """By what a run is ranked: lower is better, on average over the requests of a scope.

        Parameters
        ----------
        results : RunResults
        scope : str
        better : Better
            Which values are better here.

        Returns
        -------
        float or None
            None where the run has no value, or where no value is better than another.
        """
        match better:
            case Better.ORACLE:
                return oracle_distance(self).of_run(results, scope).value
            case Better.HALF:
                requests = (request for request in results.requests if request.scope == scope)
                return _mean(abs(value - 0.5) for value in _numbers(self.value(results, item) for item in requests))
            case Better.NONE:
                return None
        value = self.of_run(results, scope).value
        return None if value is None else -value if better is Better.HIGHER else value


@dataclass(frozen=True)
class RunValue:
    """A figure of one run.

    Attributes
    ----------
    value : float or None
    requests : int
        Number of requests that have a value.
    of : int
        Number of all requests of the scope.
    """

    value: float | None
    requests: int
    of: int


def better_of(figure: Figure, scope: str, results: Sequence[RunResults]) -> Better:
    """Which values of a figure are better for the requests of a scope.

    Parameters
    ----------
    figure : Figure
    scope : str
        ``class``, ``sample`` or ``client``.
    results : sequence of RunResults
        All runs that are compared. Their oracles count where each run has one for the scope.
    """
    requests = [[item for item in run.requests if item.scope == scope] for run in results]
    if figure.follows_oracle and results and all(any(item.oracle for item in items) for items in requests):
        return Better.ORACLE
    if figure.better is not Better.NONE:
        return figure.better
    if figure.name in ("forget_accuracy", "test_forget_accuracy"):
        goals = {item.goal for items in requests for item in items}
        if scope == "class" or (scope == "sample" and goals == {"misclassify"}):
            return Better.LOWER
    return Better.NONE


def figure_named(name: str) -> Figure:
    """A figure by name; of a name that is not built in, the figure that audits measured under it."""
    return FIGURES.get(name) or _measured(name)


def audit_names(several: Iterable[RunResults]) -> set[str]:
    """Names of further figures that audits measured, as :func:`figure_named` takes them."""
    return {
        name
        for results in several
        for request in results.requests
        if request.after is not None
        for name, value in request.after.named().items()
        if value is not None
    }


def oracle_distance(figure: Figure) -> Figure:
    """How far a figure of the audits lies from the oracle's, as an absolute difference."""

    def distance(results: RunResults, request: RequestResult) -> float | None:
        after, oracle = _of(request.after, figure.name), _of(request.oracle, figure.name)
        return None if after is None or oracle is None else abs(after - oracle)

    return Figure(
        name=f"{figure.name}_distance",
        title=f"{figure.title}: distance to the oracle",
        value=distance,
        better=Better.LOWER,
    )


def _measured(name: str, better: Better = Better.NONE) -> Figure:
    """A figure of the audits, of the model after the request."""
    return Figure(
        name=name,
        title=figure_title(name).replace("_", " "),
        value=lambda results, request: _of(request.after, name),
        better=better,
        follows_oracle=better is not Better.HIGHER,
    )


def _change(name: str) -> Figure:
    """How a figure of the audits changed, after minus before."""

    def change(results: RunResults, request: RequestResult) -> float | None:
        after, before = _of(request.after, name), _of(request.before, name)
        return None if after is None or before is None else after - before

    return Figure(
        name=f"{name.removesuffix('_accuracy')}_change",
        title=f"change of the {figure_title(name)}",
        value=change,
        better=Better.HIGHER,
    )


def _relapse(results: RunResults, request: RequestResult) -> float | None:
    """The highest accuracy on what a committed request forgot, after any later event; None where none is asked for."""
    if request.status != "committed" or request.scope == "client" or request.goal == "indistinguishable":
        return None
    later, seen = [], False
    for row in results.relapse:
        if seen:
            later.append(row.test_forget_accuracy.get(request.id, row.forget_accuracy.get(request.id)))
        seen = seen or is_commit_of(row, request.id)
    return max(_numbers(later), default=None)


def _of(figures: Figures | None, name: str) -> float | None:
    return None if figures is None else figures.named().get(name)


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return math.fsum(found) / len(found) if found else None


def _numbers(values: Iterable[float | None]) -> list[float]:
    return [number for value in values if (number := finite_number(value)) is not None]


_AUDITED = (
    _measured("forget_accuracy"),
    _measured("retain_accuracy", Better.HIGHER),
    _measured("test_forget_accuracy"),
    _measured("test_retain_accuracy", Better.HIGHER),
    _measured("membership_auc", Better.HALF),
)


def _built_in() -> Iterator[Figure]:
    yield Figure(
        name="committed",
        title="share of the requests that were committed",
        value=lambda results, request: float(request.status == "committed"),
        better=Better.HIGHER,
    )
    yield from _AUDITED
    yield _change("retain_accuracy")
    yield _change("test_retain_accuracy")
    yield from map(oracle_distance, _AUDITED)
    yield Figure(
        name="worst_relapse",
        title="highest accuracy on what was forgotten, after any later event",
        value=_relapse,
        better=Better.LOWER,
        worst=True,
    )
    yield Figure(
        name="pass_ratio",
        title="sample passes of the oracle over those of the request",
        value=lambda results, request: request.pass_ratio,
        better=Better.HIGHER,
        decimals=1,
    )
    yield Figure(
        name="passes",
        title="sample passes, backward ones twice",
        value=lambda results, request: float(request.passes),
        better=Better.LOWER,
        decimals=0,
    )
    yield Figure(
        name="seconds",
        title="seconds",
        value=lambda results, request: request.seconds,
        better=Better.LOWER,
        decimals=2,
    )


FIGURES = {figure.name: figure for figure in _built_in()}
"""The figures by name, in the order of tables."""

SHOWN = ("committed", "forget_accuracy", "test_retain_accuracy", "membership_auc", "passes")
"""Figures that tables show where none are named; ``pass_ratio`` beside them where there are oracles."""

ALL = "all"
"""In place of a figure's name: all of them but times."""

TIMES = ("seconds",)
"""Figures that differ from run to run of the same cell. They are only shown where they are named."""
