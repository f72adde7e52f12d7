"""Compare unlearning methods on one model and one data set, without a federation."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fed_unlearn.batch_plan import batch_count
from fed_unlearn.data.images import ImageSet
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import FedUnlearnError, InvalidParameterError, UnlearningDivergedError
from fed_unlearn.holder import Guard, guard_retained
from fed_unlearn.logits import predict_logits
from fed_unlearn.methods import Method
from fed_unlearn.methods.parts.labels import guard_labels_of, nearest_allowed
from fed_unlearn.seeding import seeded_generator
from fed_unlearn.simulations.bench.figure import write_method_figure
from fed_unlearn.simulations.bench.measures import Cost, Measures, timed
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
from fed_unlearn.simulations.engines.errors import RunFailedError
from fed_unlearn.simulations.run.folders import make_folder, usable_folder
from fed_unlearn.simulations.run.results import installed_versions
from fed_unlearn.training import TrainingSettings, train_locally


def run_method_bench(
    settings: MethodBenchSettings, on_progress: Callable[[str], None] = lambda text: None
) -> MethodBenchReport:
    """Compare methods. ``bench.json`` is written after every row, and the figure at the end.

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
    out = usable_folder(settings.out, FILE_NAME)
    parts = prepare_bench(settings)
    is_new = make_folder(out)
    try:
        report = _Bench(parts, out, on_progress).run()
    except BaseException as error:
        measured = (out / FILE_NAME).exists()
        if is_new and not measured:
            out.rmdir()
        if isinstance(error, KeyboardInterrupt):
            on_progress(f"interrupted; {f'rows so far in {out}' if measured else 'nothing was measured yet'}")
        raise
    return report


class _Bench:
    """One comparison. It makes and measures one model after another, and saves the report after each."""

    def __init__(self, parts: BenchParts, out: Path, on_progress: Callable[[str], None]) -> None:
        self._parts, self._out, self._on_progress = parts, out, on_progress
        self._settings = parts.settings
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

    def _warm_up(self) -> None:
        """Train for one step that is not measured. The first step on a device includes its set-up."""
        model, train = self._parts.fresh_model(), self._parts.source.train
        samples = train.subset(torch.arange(min(64, len(train))))
        train_locally(model, samples, TrainingSettings(), torch.Generator().manual_seed(0))

    def run(self) -> MethodBenchReport:
        self._warm_up()
        model, cost = self._original()
        self._split = split_samples(self._parts, model)
        self._measures = Measures(self._parts, self._split)
        self._report = replace(self._report, data=self._measures.described())
        self._add(ORIGINAL, lambda: (model, cost, None))
        if self._parts.repair is not None:
            self._add(REPAIR, lambda: self._repaired_alone(model))
        for name, method in self._parts.methods.items():
            self._compare(name, method, model)
        if self._parts.oracle is not None:
            oracle = self._parts.oracle
            self._add(ORACLE, lambda: (oracle, Cost(), None))
        elif self._settings.oracle:
            self._on_progress("training the oracle, without the forget set")
            self._add(ORACLE, lambda: (*self._trained(self._split.retain), None))
        self._report = replace(self._report, complete=True)
        self._report.save(self._out)
        write_method_figure(self._report, self._out / "figures")
        return self._report

    def _original(self) -> tuple[nn.Module, Cost]:
        if self._settings.checkpoint is not None:
            return self._parts.model, Cost()
        train = self._parts.source.train
        self._on_progress(f"training {self._settings.model} on {len(train)} samples")
        try:
            return self._trained(train)
        except UnlearningDivergedError as error:
            raise RunFailedError(str(error)) from error

    def _trained(self, samples: ImageSet) -> tuple[nn.Module, Cost]:
        model = self._parts.fresh_model()
        return model, self._train(model, samples, self._parts.training, "train")

    def _train(self, model: nn.Module, samples: SampleSet, training: TrainingSettings, purpose: str) -> Cost:
        """Train in place. Every model sees the same random draws."""
        cost = Cost()
        with timed(self._parts.device, cost):
            passes = train_locally(model, samples, training, seeded_generator(self._settings.seed, "bench", purpose))
        cost.forward_passes, cost.backward_passes = passes.forward, passes.backward
        epoch = batch_count(passes.backward // training.local_epochs, training.batch_size)
        cost.steps = training.local_epochs * epoch
        return cost

    def _compare(self, name: str, method: Method, model: nn.Module) -> None:
        """Add the row of one method, and the row with guarded repair if that is asked for."""
        self._on_progress(f"{name} ...")
        split, cost = self._split, Cost()
        given_retain = self._settings.with_retain or method.requires_retain
        try:
            with timed(self._parts.device, cost):
                outcome = method.unlearn(
                    model,
                    split.forget,
                    split.retain if given_retain else None,
                    excluded_classes=split.classes,
                    generator=seeded_generator(self._settings.seed, "bench", "unlearn", name),
                    unseen=self._parts.unseen,
                )
        except Exception as error:  # a method of another package may raise anything, and a device may lack memory
            own = isinstance(error, FedUnlearnError)
            self._put(MethodRow(method=name, error=str(error) if own else f"{type(error).__name__}: {error}"))
            return
        cost.forward_passes, cost.backward_passes = outcome.forward_passes, outcome.backward_passes
        cost.steps = outcome.steps
        self._add(name, lambda: (outcome.model, cost, outcome.converged))
        if self._parts.repair is not None:
            guarding = Cost()
            with timed(self._parts.device, guarding):
                labels = guard_labels_of(outcome, split.forget, split.classes)
            guarding.forward_passes = 0 if outcome.guard_labels is not None else len(split.forget)
            before = cost.plus(guarding)
            self._add(
                name + REPAIRED_SUFFIX, lambda: (*self._repaired(outcome.model, labels, before), outcome.converged)
            )

    def _repaired_alone(self, model: nn.Module) -> tuple[nn.Module, Cost, None]:
        """Repair the given model. The guard labels are its own best answers among the classes that stay."""
        forget, cost = self._split.forget, Cost(forward_passes=len(self._split.forget))
        with timed(self._parts.device, cost):
            labels = nearest_allowed(predict_logits(model, forget), forget.labels, self._split.classes)
        return *self._repaired(model, labels, cost), None

    def _repaired(self, model: nn.Module, labels: Tensor, before: Cost) -> tuple[nn.Module, Cost]:
        training, repair = self._parts.repair, self._settings.repair
        if training is None or repair is None:
            raise InvalidParameterError("no settings for repair were given; give the bench both training and repair")
        guard = Guard(self._split.forget, labels.cpu())
        mixed = guard_retained(self._split.retain, [guard], weight=repair.weight, margin=repair.margin)
        model = copy.deepcopy(model)
        return model, before.plus(self._train(model, mixed, training, "repair"))

    def _add(self, name: str, make: Callable[[], tuple[nn.Module, Cost, bool | None]]) -> None:
        """Make a model and add its row. An error of the library becomes a row with ``error``."""
        try:
            model, cost, converged = make()
            self._put(self._measures.row(name, model, cost, converged))
        except FedUnlearnError as error:
            self._put(MethodRow(method=name, error=str(error)))

    def _put(self, row: MethodRow) -> None:
        self._report = replace(self._report, rows=(*self._report.rows, row))
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
    return f"{row.method}: {figures}" + ("" if row.seconds is None else f", {row.seconds:.1f} s")
