"""Runs a scenario on any Flower Grid: training, requests, oracles, and the run folder they leave."""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp import Grid

from fed_unlearn.data.sources import ImageSource
from fed_unlearn.errors import FedUnlearnError, InvalidParameterError
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.simulations import results as run_results
from fed_unlearn.simulations.assembly import new_gate, new_inner_strategy, new_plan
from fed_unlearn.simulations.data_checks import check_parts
from fed_unlearn.simulations.results import HistoryPoint, RequestResult, RunResults
from fed_unlearn.simulations.sections import Scenario, TrainStep
from fed_unlearn.simulations.task import training_config
from fed_unlearn.strategies import ContinualUnlearning
from fed_unlearn.strategies.events import Observer, ignore
from fed_unlearn.strategies.outcomes import OracleOutcome, RelapseRow, RequestOutcome, UnlearningResult

logger = logging.getLogger("fed_unlearn.simulations")

SCENARIO_FILE = "scenario.toml"
LOG_FILE = "log.txt"


@dataclass(frozen=True)
class Prepared:
    """A scenario whose data and model were found to fit it, before anything is written.

    Attributes
    ----------
    scenario : Scenario
    source : ImageSource
    initial : ArrayRecord
        The model that training starts from, or the checkpoint's.
    """

    scenario: Scenario
    source: ImageSource
    initial: ArrayRecord


def prepare(scenario: Scenario, *, oracle: bool = False) -> Prepared:
    """Load data and model of a scenario, and check one against the other.

    Parameters
    ----------
    scenario : Scenario
    oracle : bool
        Whether retrain oracles are wanted.

    Raises
    ------
    FedUnlearnError
        Naming the place, the value and what is allowed.
    """
    source, model = check_parts(scenario)
    if oracle and scenario.model.checkpoint is not None:
        raise InvalidParameterError(
            f"{scenario.source_file}: --oracle with model.checkpoint: the model was trained elsewhere, so there is no"
            " training to repeat; leave one of them out"
        )
    new_inner_strategy(scenario)
    plan = new_plan(scenario)
    for index, entry in enumerate(scenario.timeline):
        if entry.forget is not None:
            try:
                plan.parameters_of(scenario.request_of(entry.forget))
            except FedUnlearnError as error:
                raise InvalidParameterError(f"{scenario.source_file}: timeline[{index}].forget: {error}") from None
    return Prepared(scenario, source, ArrayRecord(model.state_dict()))


def run_in_process(scenario: Scenario, out: Path, *, oracle: bool = False, observer: Observer = ignore) -> RunResults:
    """Run a scenario in this process: no Ray, no sockets.

    Parameters
    ----------
    scenario : Scenario
    out : Path
        The run folder; made once the scenario is found to be sound.
    oracle : bool
        Train the retrain oracle for every request.
    observer : callable
        Told what happens.

    Raises
    ------
    FedUnlearnError
        If the scenario does not fit its data or model; nothing is written then.
    """
    import torch

    from fed_unlearn.simulations.client_app import app
    from fed_unlearn.simulations.inprocess import InProcessGrid

    prepared = prepare(scenario, oracle=oracle)
    gc.collect()
    gc.freeze()  # the libraries' objects stay for good: looking at them again and again costs a twentieth of a run
    threads = torch.get_num_threads()
    write_scenario(scenario, out)
    grid = InProcessGrid(
        app, scenario.clients.count, run_config={"scenario": str(out / SCENARIO_FILE), "out": str(out)}
    )
    try:
        return serve(prepared, grid, out, engine="inprocess", oracle=oracle, observer=observer)
    finally:
        gc.unfreeze()
        torch.set_num_threads(threads)


def write_scenario(scenario: Scenario, out: Path) -> None:
    """Make the run folder with the resolved scenario in it."""
    out.mkdir(parents=True, exist_ok=True)
    (out / SCENARIO_FILE).write_text(scenario.to_toml())


def serve(
    prepared: Prepared, grid: Grid, out: Path, *, engine: str, oracle: bool = False, observer: Observer = ignore
) -> RunResults:
    """Run a prepared scenario on a Grid.

    Parameters
    ----------
    prepared : Prepared
    grid : Grid
        Whose clients run :mod:`fed_unlearn.simulations.client_app` with the same scenario.
    out : Path
        The run folder.
    engine : str
        Its name in the results.
    oracle : bool
        Train the retrain oracle for every request.
    observer : callable
        Told what happens.
    """
    out = out.resolve()
    if not (out / SCENARIO_FILE).exists():
        write_scenario(prepared.scenario, out)
    with _logging_to(out / LOG_FILE):
        return _Timeline(prepared, grid, out, engine, oracle, observer).run()


class _Timeline:
    """One run: entry after entry, results on disk after each."""

    def __init__(
        self, prepared: Prepared, grid: Grid, out: Path, engine: str, oracle: bool, observer: Observer
    ) -> None:
        scenario = prepared.scenario
        self._prepared, self._scenario, self._grid, self._out = prepared, scenario, grid, out
        self._with_oracle = oracle
        self._strategy = ContinualUnlearning(
            new_inner_strategy(scenario),
            ledger=out / "ledger.db",
            gate=new_gate(scenario),
            plan=new_plan(scenario),
            checkpoints=out / "checkpoints",
            seed=scenario.seed,
            evaluate_every=scenario.run.evaluate_every,
            observer=observer,
        )
        self._results = RunResults(
            scenario=scenario.name,
            seed=scenario.seed,
            engine=engine,
            versions=run_results.installed_versions(),
        )
        self._round = 0
        self._experiences = 0

    def run(self) -> RunResults:
        """All entries of the timeline."""
        self._save()
        for index, entry in enumerate(self._scenario.timeline):
            if entry.train is not None and not self._scenario.skips_training(index):
                self._train(entry.train)
            elif entry.forget is not None:
                self._forget(self._scenario.request_of(entry.forget))
            self._save()
        self._results = replace(self._results, complete=True)
        self._save()
        return self._results

    def _train(self, step: TrainStep) -> None:
        self._experiences += 1
        name = f"train:{self._experiences}"
        config = training_config(self._scenario.training.overridden(step), self._scenario.seed)
        forgotten = sorted(self._strategy.ledger.forgotten_classes())
        result = self._strategy.start(
            self._grid,
            self._prepared.initial,
            num_rounds=step.rounds,
            train_config=config,
            evaluate_config=ConfigRecord({"forgotten-classes": forgotten}),
        )
        accuracies = {
            number: float(str(metrics["accuracy"])) for number, metrics in result.evaluate_metrics_clientapp.items()
        }
        points = [
            HistoryPoint(event=name, round=self._round + number, test_accuracy=accuracy)
            for number, accuracy in accuracies.items()
        ]
        last = accuracies[max(accuracies)] if accuracies else None
        self._round += step.rounds
        training = self._results.training
        traffic = result.training_traffic
        training = replace(
            training,
            rounds=training.rounds + step.rounds,
            seconds=training.seconds + result.training_seconds,
            test_accuracy=training.test_accuracy if self._results.requests or not accuracies else last,
            forward_passes=training.forward_passes + traffic.forward_passes,
            backward_passes=training.backward_passes + traffic.backward_passes,
        )
        self._results = replace(
            self._results,
            training=training,
            history=(*self._results.history, *points),
            relapse=(*self._results.relapse, *map(_relapse_row, result.relapse)),
        )

    def _forget(self, request: ForgetRequest) -> None:
        self._strategy.submit(request)
        config = training_config(self._scenario.training, self._scenario.seed)
        result: UnlearningResult = self._strategy.start(
            self._grid, self._prepared.initial, num_rounds=0, train_config=config
        )
        for outcome in result.requests:
            self._round += 1 + outcome.repair_rounds
            points: list[HistoryPoint] = []
            if outcome.after is not None and outcome.after.test_retain_accuracy is not None:
                point = HistoryPoint(
                    event=outcome.request.id or "",
                    round=self._round,
                    test_accuracy=outcome.after.test_retain_accuracy,
                    test_forget_accuracy=outcome.after.test_forget_accuracy,
                )
                points.append(point)
            self._results = replace(
                self._results,
                requests=(*self._results.requests, _request_result(outcome, None)),
                history=(*self._results.history, *points),
            )
        self._results = replace(self._results, relapse=(*self._results.relapse, *map(_relapse_row, result.relapse)))
        self._save()
        for outcome in result.requests:
            if self._with_oracle and outcome.before is not None:
                oracle = self._strategy.retrain_oracle(self._grid, outcome.request.id or "")
                finished = _request_result(outcome, oracle)
                self._results = replace(
                    self._results,
                    requests=tuple(finished if item.id == finished.id else item for item in self._results.requests),
                )

    def _save(self) -> None:
        devices = tuple(
            run_results.DeviceUse(
                client=use.client,
                message=use.message,
                device=use.device,
                cuda_visible_devices=use.cuda_visible_devices,
                count=count,
            )
            for use, count in self._strategy.device_use.items()
        )
        self._results = replace(self._results, devices=devices)
        self._results.save(self._out)


def _request_result(outcome: RequestOutcome, oracle: OracleOutcome | None) -> RequestResult:
    return RequestResult(
        id=outcome.request.id or "",
        scope=outcome.request.scope.kind,
        target=outcome.request.target(),
        method=outcome.method,
        status=str(outcome.status),
        attempts=outcome.attempts,
        reason=outcome.reason,
        before=outcome.before,
        unlearned=outcome.unlearned,
        after=outcome.after,
        oracle=oracle.figures if oracle is not None else None,
        seconds=outcome.seconds,
        oracle_seconds=oracle.seconds if oracle is not None else None,
        passes=outcome.traffic.passes,
        oracle_passes=oracle.traffic.passes if oracle is not None else None,
        messages=outcome.traffic.messages,
        bytes_sent=outcome.traffic.bytes_sent,
        bytes_received=outcome.traffic.bytes_received,
    )


def _relapse_row(row: RelapseRow) -> run_results.RelapseRow:
    def known(values: dict[str, float | None]) -> dict[str, float]:
        return {key: value for key, value in values.items() if value is not None and not math.isnan(value)}

    return run_results.RelapseRow(
        after=row.after,
        forget_accuracy=known(row.forget_accuracy),
        test_forget_accuracy=known(row.test_forget_accuracy),
    )


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Everything that Flower and this library log goes into the run folder too."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger("flwr"), logging.getLogger("fed_unlearn")]
    levels = [item.level for item in loggers]
    for item in loggers:
        item.addHandler(handler)
        item.setLevel(logging.INFO)
    try:
        yield
    finally:
        for item, level in zip(loggers, levels, strict=True):
            item.removeHandler(handler)
            item.setLevel(level)
        handler.close()
