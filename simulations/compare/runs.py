"""The runs of a comparison: found in folders, each with its scenario, method and seed."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.requests import SCOPES
from fed_unlearn.simulations.run.folders import SCENARIO_FILE
from fed_unlearn.simulations.run.results import FILE_NAME, ResultsError, RunResults
from fed_unlearn.simulations.run.setting_values import values_of
from fed_unlearn.simulations.seeds import shown_seeds
from fed_unlearn.simulations.sweep.record import FILE_NAME as SWEEP_FILE
from fed_unlearn.simulations.sweep.record import OWN, Cell, Served, SweepRecord

_LEDGER = "ledger.db"
_METHOD_KEYS = ("seed", "description", "unlearning.", "timeline", "reporting.", "serve.")
"""Settings in which runs of different methods and seeds may differ, and those that change no result."""


class NothingToCompareError(FedUnlearnError, ValueError):
    """Raised if folders hold no run that can be compared."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a comparison.

    Attributes
    ----------
    cell : Cell
        Its scenario, method and seed.
    folder : Path
    results : RunResults or None
        Its results; None where it has none that are complete.
    problem : str or None
        Why it is not compared.
    settings : mapping of str to str
        Values of its scenario by dotted key, without those of methods and the seed.
    """

    cell: Cell
    folder: Path
    results: RunResults | None = None
    problem: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FoundRuns:
    """What was found in folders.

    Attributes
    ----------
    runs : tuple of Run
        Each cell once.
    served : mapping of (str, str) to Served
        What sweeps say of their methods, by scenario and method.
    problems : tuple of str
        What was found and is not compared, or is in doubt.
    """

    runs: tuple[Run, ...]
    served: Mapping[tuple[str, str], Served] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def compared(self) -> tuple[Run, ...]:
        """The runs with complete results."""
        return tuple(run for run in self.runs if run.results is not None)


def found_runs(folders: Sequence[Path]) -> FoundRuns:
    """Find the runs below folders: run folders, sweeps, or folders that hold some at any depth.

    Parameters
    ----------
    folders : sequence of Path

    Raises
    ------
    NothingToCompareError
        If a folder is missing, or holds no run.
    """
    every: dict[Path, Run] = {}
    served: dict[tuple[str, str], Served] = {}
    for folder in folders:
        place = folder.expanduser().absolute()
        if not place.is_dir():
            raise NothingToCompareError(
                f"{folder}: is no folder; expected the folder of a run or of a sweep, or one above"
            )
        before = len(every)
        found = False
        for run in _runs_below(place, served):
            found = True
            every.setdefault(run.folder.resolve(), run)
        if not found and len(every) == before:
            raise NothingToCompareError(f"{folder}: holds no run; expected a {FILE_NAME} in it or below")
    runs: dict[Cell, Run] = {}
    problems: list[str] = []
    for run in every.values():
        known = runs.get(run.cell)
        if known is None or (known.results is None and run.results is not None):
            runs[run.cell] = run
        if known is not None:
            used, other = (run, known) if runs[run.cell] is run else (known, run)
            problems.append(
                f"{run.cell.name}: found twice; {_short(used.folder)} counts, {_short(other.folder)} does not"
            )
    absent = [(run.cell, run.problem) for run in runs.values() if run.problem is not None]
    problems += _told_of_cells([*absent, *((cell, "missing") for cell in _missing(runs))])
    return FoundRuns(runs=tuple(runs.values()), served=served, problems=(*problems, *_doubts(tuple(runs.values()))))


def _runs_below(folder: Path, served: dict[tuple[str, str], Served]) -> Iterator[Run]:
    """The runs in a folder and below it, in the order of their names; runs are not searched for further ones."""
    if (folder / SWEEP_FILE).is_file():
        record = SweepRecord.load(folder)
        for scenario, methods in record.served.items():
            served |= {(scenario, method): item for method, item in methods.items()}
        yield from (_run_of_cell(cell, folder, record) for cell in _by_method(record))
    elif (folder / FILE_NAME).is_file() or ((folder / SCENARIO_FILE).is_file() and (folder / _LEDGER).is_file()):
        yield _bare_run(folder)
    else:
        below = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
        for path in below:
            yield from _runs_below(Path(path), served)


def _by_method(record: SweepRecord) -> list[Cell]:
    places = {method: place for place, method in enumerate(record.methods)}
    return sorted(record.cells, key=lambda cell: (record.scenarios.index(cell.scenario), places[cell.method]))


def _run_of_cell(cell: Cell, out: Path, record: SweepRecord) -> Run:
    folder, end = cell.folder(out), record.end_of(cell)
    if not folder.is_dir():
        return Run(cell=cell, folder=folder, problem="not begun" if end is None else end.told)
    run = _with_results(cell, folder)
    if end is not None and end.state != "ended" and run.results is None:
        return Run(cell=cell, folder=folder, problem=end.told)
    return run


def _bare_run(folder: Path) -> Run:
    """A run that no sweep knows. Where its results cannot be read, its scenario names it."""
    table = _scenario_table(folder)
    try:
        results = RunResults.load(folder)
    except ResultsError:
        if not table:
            raise
        cell = Cell(str(table.get("name")), method_label(table), int(table.get("seed", 0)))
    else:
        cell = Cell(results.scenario, method_label(table) if table else _label_of_results(results), results.seed)
    return _with_results(cell, folder)


def _with_results(cell: Cell, folder: Path) -> Run:
    if not (folder / FILE_NAME).is_file():
        return Run(cell=cell, folder=folder, problem="not complete: no results yet")
    try:
        results = RunResults.load(folder)
    except ResultsError:
        return Run(cell=cell, folder=folder, problem=f"its {FILE_NAME} cannot be read")
    if not results.complete:
        return Run(cell=cell, folder=folder, problem="not complete")
    table = _scenario_table(folder)
    settings = {key: value for key, value in values_of(table).items() if not key.startswith(_METHOD_KEYS)}
    settings["timeline"] = json.dumps(_without_methods(table.get("timeline", ())), sort_keys=True, default=str)
    return Run(cell=cell, folder=folder, results=results, settings=settings)


def _scenario_table(folder: Path) -> dict[str, Any]:
    """The resolved scenario of a run; empty where it cannot be read."""
    try:
        table = tomllib.loads((folder / SCENARIO_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return table if _is_scenario(table) else {}


def _is_scenario(table: Mapping[str, Any]) -> bool:
    """Whether what is read of a scenario here has the types that it has in one."""
    timeline, seed = table.get("timeline", []), table.get("seed", 0)
    if not (isinstance(timeline, list) and all(isinstance(entry, dict) for entry in timeline)):
        return False
    forget = [entry["forget"] for entry in timeline if "forget" in entry]
    steps = [step for item in forget for step in (item if isinstance(item, list) else [item])]
    is_table = isinstance(table.get("unlearning", {}), dict) and all(isinstance(step, dict) for step in steps)
    return is_table and isinstance(table.get("name"), str) and isinstance(seed, int) and not isinstance(seed, bool)


def method_label(table: Mapping[str, Any]) -> str:
    """The methods of a scenario's requests, those of a scope joined by ``+`` and scopes by ``/``: ``delete/fedosd``.

    Parameters
    ----------
    table : mapping
        The resolved scenario of a run.
    """
    unlearning = table.get("unlearning", {})
    defaults = {"class": "method", "sample": "sample-method", "client": "client-method"}
    methods: dict[str, dict[str, None]] = {scope: {} for scope in SCOPES}
    for step in _steps(table.get("timeline", ())):
        if "class" in step or "classes" in step:
            scope = "class"
        else:
            scope = "sample" if "samples" in step or "sample-ids" in step else "client"
        methods[scope][str(step.get("method", unlearning.get(defaults[scope])))] = None
    return "/".join("+".join(names) for names in methods.values() if names) or OWN


def _label_of_results(results: RunResults) -> str:
    methods: dict[str, dict[str, None]] = {scope: {} for scope in SCOPES}
    for request in results.requests:
        methods.setdefault(request.scope, {})[request.method] = None
    return "/".join("+".join(names) for names in methods.values() if names) or OWN


def _steps(timeline: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for entry in timeline:
        forget = entry.get("forget", ())
        yield from [forget] if isinstance(forget, dict) else forget


def _without_methods(timeline: Sequence[Mapping[str, Any]]) -> list[object]:
    """A timeline without what methods may differ in."""

    def plain(step: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in step.items() if key not in ("method", "parameters")}

    return [
        {**entry, "forget": [plain(step) for step in _steps([entry])]} if "forget" in entry else entry
        for entry in timeline
    ]


def _told_of_cells(problems: Iterable[tuple[Cell, str]]) -> Iterator[str]:
    """What there is to say of cells; once for all seeds of a method of which it is the same."""
    seeds: dict[tuple[str, str, str], list[int]] = {}
    for cell, problem in problems:
        seeds.setdefault((cell.scenario, cell.method, problem), []).append(cell.seed)
    for (scenario, method, problem), of in seeds.items():
        shown = shown_seeds(tuple(sorted(of)))
        yield f"{scenario}, {method}, seed{'s' if len(of) > 1 else ''} {shown}: {problem}"


def _missing(runs: Mapping[Cell, Run]) -> Iterator[Cell]:
    """The cells that are not there, of those that methods and seeds of a scenario make."""
    for scenario in dict.fromkeys(cell.scenario for cell in runs):
        cells = [cell for cell in runs if cell.scenario == scenario]
        for method in dict.fromkeys(cell.method for cell in cells):
            for seed in sorted({cell.seed for cell in cells}):
                if Cell(scenario, method, seed) not in runs:
                    yield Cell(scenario, method, seed)


def _doubts(runs: Sequence[Run]) -> Iterator[str]:
    """In what the runs of a scenario differ beside their method and seed."""
    for scenario in dict.fromkeys(run.cell.scenario for run in runs):
        compared = [run for run in runs if run.cell.scenario == scenario and run.results is not None]
        keys = sorted({key for run in compared for key in run.settings})
        if differing := [key for key in keys if len({run.settings.get(key) for run in compared}) > 1]:
            yield f"{scenario}: runs differ in settings too: {', '.join(differing)}"
        engines = sorted({run.results.engine for run in compared if run.results is not None})
        if len(engines) > 1:
            yield f"{scenario}: runs on several engines: {', '.join(engines)}"
        versions = [run.results.versions for run in compared if run.results is not None]
        packages = sorted({name for item in versions for name in item})
        if differing := [name for name in packages if len({item.get(name) for item in versions}) > 1]:
            yield f"{scenario}: runs of several versions of {', '.join(differing)}"


def _short(folder: Path) -> str:
    """A folder's path from here, where it is below."""
    here = Path.cwd()
    return str(folder.relative_to(here)) if folder.is_relative_to(here) else str(folder)
