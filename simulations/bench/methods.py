"""Compare unlearning methods on one model and one data set, without a federation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fed_unlearn.audits.readings import Readings
from fed_unlearn.audits.samples.shadows import Shadows
from fed_unlearn.errors import FedUnlearnError, InvalidParameterError, UnlearningDivergedError
from fed_unlearn.methods import Method
from fed_unlearn.simulations.bench.figure import write_method_figure
from fed_unlearn.simulations.bench.full_table import write_full_table
from fed_unlearn.simulations.bench.kept_models import MadeModel
from fed_unlearn.simulations.bench.making import ModelMaker
from fed_unlearn.simulations.bench.measures import Measures
from fed_unlearn.simulations.bench.results import (
    FILE_NAME,
    ORACLE,
    ORIGINAL,
    REPAIR,
    REPAIRED_SUFFIX,
    MethodBenchReport,
    MethodRow,
)
from fed_unlearn.simulations.bench.settings import MethodBenchSettings
from fed_unlearn.simulations.bench.setup import BenchParts, prepare_bench, split_samples
from fed_unlearn.simulations.bench.shadows import ShadowModels, holds_only_cache, how_to_go_on, with_cache
from fed_unlearn.simulations.engines.errors import RunFailedError
from fed_unlearn.simulations.run.folders import make_folder, usable_folder
from fed_unlearn.simulations.run.installed import installed_versions


def run_method_bench(
    settings: MethodBenchSettings, on_progress: Callable[[str], None] = lambda text: None
) -> MethodBenchReport:
    """Compare methods. ``bench.json`` is written after every row, the full table and the figure at the end.

    Parameters
    ----------
    settings : MethodBenchSettings
    on_progress : callable
        Called with a line of text when a step begins and when a row is measured.

    Returns
    -------
    MethodBenchReport
        The complete report. A method that fails is a row with ``error``.

    Raises
    ------
    FedUnlearnError
        If a setting cannot be used. Nothing is trained or written then.
    RunFailedError
        If the model cannot be trained.
    KeyboardInterrupt
        On Ctrl-C, after telling where the rows so far are.
    """
    _check_cache(settings.cache)
    out = usable_folder(settings.out, FILE_NAME, begins_again=holds_only_cache)
    settings = with_cache(settings, out)
    parts = prepare_bench(settings)
    is_new = make_folder(out)
    try:
        report = _Bench(parts, out, on_progress).run()
    except BaseException as error:
        measured = (out / FILE_NAME).exists()
        if is_new and not any(out.iterdir()):
            out.rmdir()
        if isinstance(error, KeyboardInterrupt):
            on_progress(f"interrupted; {f'rows so far in {out}' if measured else 'nothing was measured yet'}")
            for line in how_to_go_on(settings, out):
                on_progress(line)
        raise
    return report


class _Bench:
    """One comparison. It makes and measures one model after another, and saves the report after each.

    Oracles are measured first, since other models are judged beside them; their rows stand last.
    """

    def __init__(self, parts: BenchParts, out: Path, on_progress: Callable[[str], None]) -> None:
        self._parts, self._out, self._on_progress = parts, out, on_progress
        self._settings = parts.settings
        self._maker = ModelMaker(parts, on_progress)
        self._rows, self._oracle_rows = list[MethodRow](), list[MethodRow]()
        self._oracles: tuple[Readings, ...] = ()
        self._shadows_of: Callable[[str], Shadows | None] = lambda name: None
        device = parts.device
        name = f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
        self._report = MethodBenchReport(
            scope=self._settings.scope,
            seed=self._settings.seed,
            threads=torch.get_num_threads(),
            device=name,
            settings=_written_settings(parts),
            methods={name: dataclasses.asdict(method) for name, method in parts.methods.items()},
            versions=installed_versions(),
        )

    def run(self) -> MethodBenchReport:
        self._maker.warm_up()
        try:
            original = self._maker.original()
        except UnlearningDivergedError as error:
            raise RunFailedError(str(error)) from error
        shadows = ShadowModels(self._parts, self._on_progress) if self._settings.shadows else None
        self._split = split_samples(self._parts, original.model)
        if shadows is not None:
            self._split = shadows.with_memorised(self._split, original.model)
        self._measures = Measures(self._parts, self._split)
        self._report = replace(self._report, data=self._measures.described())
        self._original = self._measures.readings(original.model)
        if shadows is not None:
            self._shadows_of = shadows.prepared(self._split, self._original.data)
        self._add_oracles()
        self._add(ORIGINAL, lambda: original)
        if self._parts.repair is not None:
            self._add(REPAIR, lambda: self._maker.repaired_alone(original.model, self._split))
        for name, method in self._parts.methods.items():
            self._compare(name, method, original)
        self._report = replace(self._report, complete=True)
        self._report.save(self._out)
        write_full_table(self._report, self._out)
        write_method_figure(self._report, self._out / "figures")
        return self._report

    def _add_oracles(self) -> None:
        """Make and measure the oracles, each beside the others."""
        try:
            oracles = self._maker.oracles(self._split)
        except FedUnlearnError as error:
            self._put(MethodRow(method=ORACLE, error=str(error)))
            return
        names = [ORACLE] if len(oracles) == 1 else [f"{ORACLE} {number}" for number in range(1, len(oracles) + 1)]
        self._oracles = tuple(self._measures.readings(oracle.model) for oracle in oracles)
        for name, oracle, readings in zip(names, oracles, self._oracles, strict=True):
            others = tuple(each for each in self._oracles if each is not readings)
            try:
                self._put(self._row(name, oracle, readings, others))
            except FedUnlearnError as error:
                self._put(MethodRow(method=name, error=str(error)))

    def _compare(self, name: str, method: Method, original: MadeModel) -> None:
        """Add the row of one method, and the row with guarded repair if that is asked for."""
        self._on_progress(f"{name} ...")
        try:
            made = self._maker.unlearned(name, method, original.model, self._split)
        except Exception as error:  # a method of another package may raise anything, and a device may lack memory
            own = isinstance(error, FedUnlearnError)
            self._put(MethodRow(method=name, error=str(error) if own else f"{type(error).__name__}: {error}"))
            return
        self._add(name, lambda: made)
        if self._parts.repair is not None:
            self._add(name + REPAIRED_SUFFIX, lambda: self._maker.repaired(made, self._split))

    def _add(self, name: str, make: Callable[[], MadeModel]) -> None:
        """Make a model and add its row. An error of the library becomes a row with ``error``."""
        try:
            made = make()
            readings = self._original if name == ORIGINAL else self._measures.readings(made.model)
            self._put(self._row(name, made, readings, self._oracles))
        except FedUnlearnError as error:
            self._put(MethodRow(method=name, error=str(error)))

    def _row(self, name: str, made: MadeModel, readings: Readings, oracles: tuple[Readings, ...]) -> MethodRow:
        if self._settings.audit == "full":
            self._on_progress(f"{name}: audits ...")  # they may take minutes
        return self._measures.row(
            name,
            readings,
            made.cost,
            made.converged,
            original=self._original,
            oracles=oracles,
            shadows=self._shadows_of(name),
            from_cache=made.from_cache,
        )

    def _put(self, row: MethodRow) -> None:
        if row.is_oracle:
            found = [*self._oracle_rows, row]
            self._oracle_rows = [each.beside(found) for each in found]
        else:
            row = row.beside(self._oracle_rows)
            self._rows.append(row)
        self._report = replace(self._report, rows=(*self._rows, *self._oracle_rows))
        self._report.save(self._out)
        self._on_progress(_sentence(row))


def _written_settings(parts: BenchParts) -> dict[str, object]:
    settings: dict[str, Any] = dataclasses.asdict(parts.settings)
    settings["epochs"] = parts.training.local_epochs
    settings["methods"] = list(parts.methods)
    settings["model_parameters"] = dict(parts.model_parameters)
    if parts.repair is not None:
        settings["repair"]["fraction"] = parts.repair.fraction
    settings["unseen"] = 0 if parts.unseen is None else len(parts.unseen)
    return settings


def _sentence(row: MethodRow) -> str:
    if row.error is not None:
        return f"{row.method}: {row.error}"
    figures = ", ".join(
        f"{name} {value:.3f}"
        for name, value in (
            ("forget", row.forget_accuracy),
            ("test forget", row.test_forget_accuracy),
            ("test retain", row.test_retain_accuracy),
        )
        if value is not None
    )
    outside = None if row.audits is None else row.audits.outside
    flagged = "" if outside is None else f"; {outside.figures} of {outside.judged_figures} figures outside"
    kept = " (kept)" if row.from_cache else ""
    seconds = "" if row.seconds is None else f", {row.seconds:.1f} s{kept}"
    return f"{row.method}: {figures}{seconds}{flagged}"


def _check_cache(cache: Path | None) -> None:
    """Before anything is trained: models could not be kept under a file."""
    above = () if cache is None else (cache, *cache.parents)
    if blocked := next((place for place in above if place.exists() and not place.is_dir()), None):
        raise InvalidParameterError(f"--cache {cache}: {blocked} is a file; expected a folder, or one to be made")
