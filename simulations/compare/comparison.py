"""Makes the tables of a comparison from runs."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.requests import SCOPES
from fed_unlearn.simulations.compare.figures import (
    ALL,
    FIGURES,
    SHOWN,
    TIMES,
    Better,
    Figure,
    RunValue,
    audit_names,
    better_of,
    figure_named,
)
from fed_unlearn.simulations.compare.notes import kept_notes, run_notes, value_notes
from fed_unlearn.simulations.compare.runs import FoundRuns, NothingToCompareError, Run
from fed_unlearn.simulations.compare.statistics import (
    Difference,
    friedman,
    holm,
    mean_ranks,
    paired_difference,
    spread_of,
)
from fed_unlearn.simulations.compare.tables import CompareSettings, Comparison, FigureTable, Row, RunRow
from fed_unlearn.simulations.run.results import RunResults
from fed_unlearn.text import quoted


def comparison_of(found: FoundRuns, settings: CompareSettings) -> Comparison:
    """Compare runs.

    Parameters
    ----------
    found : FoundRuns
    settings : CompareSettings

    Raises
    ------
    NothingToCompareError
        If no run is complete.
    InvalidParameterError
        If a figure or the baseline is not there.
    """
    if not found.compared:
        raise NothingToCompareError("no run is complete; go on with one, and compare again", *found.problems)
    methods = list(dict.fromkeys(run.cell.method for run in found.runs))
    baseline = settings.baseline if settings.baseline is not None else methods[0]
    if baseline not in methods:
        raise InvalidParameterError(_unknown("--baseline", baseline, methods))
    figures = chosen_figures(settings.figures, [run.results for run in found.compared if run.results is not None])
    parts = [
        _Part(found, scenario, scope, figure)
        for scenario in dict.fromkeys(run.cell.scenario for run in found.runs)
        for scope in _scopes(found, scenario, settings.scopes)
        for figure in figures
    ]
    parts = [part for part in parts if part.has_values]
    return Comparison(
        baseline=baseline,
        level=settings.level,
        tables=tuple(part.table(baseline, settings.level) for part in parts),
        run_rows=tuple(row for part in parts for row in part.run_rows()),
        problems=(*found.problems, *run_notes(found), *value_notes(row for part in parts for row in part.run_rows())),
        kept=tuple(kept_notes(found)),
    )


def chosen_figures(names: Sequence[str], results: Sequence[RunResults]) -> tuple[Figure, ...]:
    """The figures of some names; the default ones where there are none.

    Raises
    ------
    InvalidParameterError
        If no run has a figure of the name.
    """
    if not names:
        has_oracles = any(request.oracle is not None for run in results for request in run.requests)
        names = (*SHOWN, *(("pass_ratio",) if has_oracles else ()))
    elif ALL in names:
        names = tuple(dict.fromkeys([*(name for name in FIGURES if name not in TIMES), *names]))
    measured = audit_names(results)
    known = [ALL, *FIGURES, *sorted(measured - FIGURES.keys())]
    for name in names:
        if name not in known:
            raise InvalidParameterError(_unknown("--figure", name, known))
    return tuple(figure_named(name) for name in dict.fromkeys(names) if name != ALL)


@dataclass(frozen=True)
class _Part:
    """The runs of one scenario, seen through one figure of the requests of one scope."""

    found: FoundRuns
    scenario: str
    scope: str
    figure: Figure

    @property
    def runs(self) -> list[Run]:
        return [run for run in self.found.compared if run.cell.scenario == self.scenario]

    @property
    def methods(self) -> list[str]:
        """All methods of the scenario, those without a complete run too."""
        return list(dict.fromkeys(run.cell.method for run in self.found.runs if run.cell.scenario == self.scenario))

    @property
    def has_values(self) -> bool:
        return any(value.value is not None for _, value in self._values())

    def run_rows(self) -> Iterator[RunRow]:
        """The figure of each run."""
        for run, value in self._values():
            yield RunRow(
                scenario=self.scenario,
                method=run.cell.method,
                seed=run.cell.seed,
                scope=self.scope,
                figure=self.figure.name,
                value=value.value,
                requests=value.requests,
                of=value.of,
            )

    def table(self, baseline: str, level: float) -> FigureTable:
        """The table of the figure."""
        by_method: dict[str, dict[int, float]] = {method: {} for method in self.methods}
        for run, value in sorted(self._values(), key=lambda pair: pair[0].cell.seed):
            if value.value is not None:
                by_method[run.cell.method][run.cell.seed] = value.value
        better = better_of(self.figure, self.scope, [run.results for run in self.runs if run.results is not None])
        scores, ranks = self._ranked(by_method, better)
        differences = _differences(by_method, baseline, level)
        rows = [
            Row(
                method=method,
                runs=len({run.cell.seed for run in self.found.runs if run.cell.scenario == self.scenario}),
                keeps_others=self._keeps_others(method),
                spread=spread_of(list(values.values())),
                difference=differences.get(method),
                rank=ranks.get(method),
            )
            for method, values in by_method.items()
        ]
        return FigureTable(
            scenario=self.scenario,
            scope=self.scope,
            figure=self.figure,
            better=better,
            rows=tuple(rows),
            ranked_seeds=len(scores),
            friedman=friedman(scores),
        )

    def _values(self) -> list[tuple[Run, RunValue]]:
        return [(run, self.figure.of_run(run.results, self.scope)) for run in self.runs if run.results is not None]

    def _ranked(
        self, by_method: Mapping[str, Mapping[int, float]], better: Better
    ) -> tuple[list[list[float]], dict[str, float]]:
        """What is ranked and the mean ranks: a row for each seed at which every method with some value has a score."""
        methods = [method for method, values in by_method.items() if values]
        results = {(run.cell.method, run.cell.seed): run.results for run in self.runs}
        rows = []
        for seed in sorted({seed for values in by_method.values() for seed in values} if len(methods) > 1 else ()):
            cells = [results.get((method, seed)) for method in methods]
            scores = [self.figure.score(cell, self.scope, better) for cell in cells if cell is not None]
            known = [score for score in scores if score is not None]
            if len(known) == len(methods):
                rows.append(known)
        return rows, dict(zip(methods, mean_ranks(rows), strict=True)) if rows else {}

    def _keeps_others(self, method: str) -> bool:
        served = self.found.served.get((self.scenario, method))
        return served is not None and served.keeps_in(self.scope)


def _differences(by_method: Mapping[str, Mapping[int, float]], baseline: str, level: float) -> dict[str, Difference]:
    """The differences to the baseline, their p-values adjusted for their number."""
    if baseline not in by_method:
        return {}
    found = {
        method: difference
        for method, values in by_method.items()
        if method != baseline and (difference := paired_difference(values, by_method[baseline], level)) is not None
    }
    tested = {method: difference.p for method, difference in found.items() if difference.p is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    return {
        method: dataclasses.replace(difference, adjusted_p=adjusted.get(method)) for method, difference in found.items()
    }


def _scopes(found: FoundRuns, scenario: str, chosen: Sequence[str]) -> list[str]:
    """The scopes to compare in: as chosen, or those that some method of a sweep serves, or all."""
    if chosen:
        return [scope for scope in SCOPES if scope in chosen]
    served = {scope for (name, _), item in found.served.items() if name == scenario for scope in item.scopes}
    return [scope for scope in SCOPES if scope in served] if served else list(SCOPES)


def _unknown(option: str, name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{option} {quoted(name)}: is not there; {hint}known are {', '.join(known)}"
