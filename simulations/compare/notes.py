"""What a reader of a comparison has to know of its runs, a line for each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fed_unlearn.simulations.compare.runs import FoundRuns
from fed_unlearn.simulations.compare.tables import RunRow
from fed_unlearn.simulations.seeds import shown_seeds
from fed_unlearn.simulations.sweep.record import OWN


def run_notes(found: FoundRuns) -> Iterator[str]:
    """Requests of compared runs that have no figures, and those that another method ended than the sweep's."""
    for run in found.compared:
        requests = run.results.requests if run.results is not None else ()
        if without := [item.id for item in requests if item.after is None]:
            yield f"{run.cell.name}: without figures, and in no mean: {', '.join(without)}"
        served = found.served.get((run.cell.scenario, run.cell.method))
        if served is None or run.cell.method == OWN:
            continue
        kept = {item.id for item in served.kept}
        others = [item for item in requests if item.id not in kept and item.method != run.cell.method]
        if others:
            told = ", ".join(f"{item.id} by {item.method}" for item in others)
            yield f"{run.cell.name}: ended by another method than the sweep's: {told}"


def value_notes(rows: Iterable[RunRow]) -> Iterator[str]:
    """Figures that some runs of a method do not have, or not of all their requests."""
    absent: dict[tuple[str, str, str, str], list[int]] = {}
    for row in rows:
        if row.value is None and row.of:
            absent.setdefault((row.scenario, row.method, row.scope, row.figure), []).append(row.seed)
    for (scenario, method, scope, figure), seeds in absent.items():
        yield f"{scenario}, {method}: no {figure} of {scope} requests at seeds {shown_seeds(tuple(sorted(seeds)))}"


def kept_notes(found: FoundRuns) -> Iterator[str]:
    """Which requests keep the scenario's own method, since the sweep's does not serve them."""
    there = {(run.cell.scenario, run.cell.method) for run in found.runs}
    for (scenario, method), served in found.served.items():
        if served.kept and (scenario, method) in there:
            told = ", ".join(f"{item.id} ({item.scope}) by {item.method}" for item in served.kept)
            yield f"{scenario}, {method}: serves {' and '.join(served.scopes)} requests; own methods: {told}"
