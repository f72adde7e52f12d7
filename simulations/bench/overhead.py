"""What the federation costs: the same training as a plain PyTorch loop, in process, and on Ray."""

from __future__ import annotations

import gc
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord
from flwr.serverapp import Grid
from numpy.typing import NDArray
from torch.nn import functional

from fed_unlearn.data.clients import client_data
from fed_unlearn.errors import FedUnlearnError, InvalidParameterError
from fed_unlearn.seeding import seeded_generator
from fed_unlearn.simulations.run.assembly import new_inner_strategy
from fed_unlearn.simulations.run.driver import prepare, write_scenario
from fed_unlearn.simulations.run.folders import SCENARIO_FILE
from fed_unlearn.simulations.run.results import RunResults
from fed_unlearn.simulations.scenario.sections import Scenario
from fed_unlearn.simulations.task import new_model, source_of, training_config
from fed_unlearn.strategies import ContinualUnlearning

Arrays = dict[str, NDArray[Any]]

REPETITIONS = 5


@dataclass(frozen=True)
class OverheadRow:
    """One way to run the training.

    Attributes
    ----------
    name : str
        ``loop``, ``inprocess`` or ``ray``.
    seconds : tuple of float
        Of the training rounds, one entry a repetition.
    wall_seconds : tuple of float
        Of everything: start of the engine, identification of clients and the audit that accepts the model included.
    """

    name: str
    seconds: tuple[float, ...]
    wall_seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median of the training rounds' seconds."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class OverheadReport:
    """What was measured.

    Attributes
    ----------
    rows : tuple of OverheadRow
        The plain loop first.
    arrays_equal : bool
        Whether loop and in-process engine end with the same arrays, bit for bit.
    threads, rounds : int
        Torch threads of loop and in-process engine, and training rounds.
    """

    rows: tuple[OverheadRow, ...]
    arrays_equal: bool
    threads: int
    rounds: int

    def ratio(self, row: OverheadRow) -> float:
        """Median over repetitions of a row's seconds by the loop's of the same repetition."""
        return statistics.median(mine / plain for mine, plain in zip(row.seconds, self.rows[0].seconds, strict=True))


def measure_overhead(
    scenario: Scenario,
    *,
    repetitions: int = REPETITIONS,
    with_ray: bool = True,
    on_progress: Callable[[str], None] = lambda text: None,
) -> OverheadReport:
    """Run a scenario's first training step in every way, alternating, so that a drifting machine meets all alike.

    Parameters
    ----------
    scenario : Scenario
        With ``FedAvg``, since the plain loop averages so.
    repetitions : int
        At least 1.
    with_ray : bool
        Whether the Ray engine is measured too.
    on_progress : callable
        Told what was measured, line by line.

    Raises
    ------
    InvalidParameterError
        If the scenario does not begin with training by FedAvg.
    """
    step = scenario.timeline[0].train
    if step is None or step.rounds == 0 or scenario.training.strategy != "FedAvg" or repetitions < 1:
        raise InvalidParameterError(
            f"{scenario.source_file}: the overhead is measured on a scenario that begins with training by FedAvg,"
            " at least once"
        )
    scenario = scenario.model_copy(update={"timeline": scenario.timeline[:1]})
    threads_before = torch.get_num_threads()
    flower = logging.getLogger("flwr")
    level = flower.level
    flower.setLevel(logging.WARNING)
    torch.set_num_threads(scenario.run.threads or threads_before)
    gc.collect()
    gc.freeze()
    try:
        ways: dict[str, Callable[[Path], tuple[float, Arrays | None]]] = {
            "loop": lambda folder: _plain_loop(scenario),
            "inprocess": lambda folder: _in_process(scenario, folder),
        }
        if with_ray:
            ways["ray"] = lambda folder: _on_ray(scenario, folder)
        for name in ("loop", "inprocess"):
            with tempfile.TemporaryDirectory() as folder:
                ways[name](Path(folder))
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        arrays: dict[str, Arrays | None] = {}
        for repetition in range(repetitions):
            for name, way in ways.items():
                with tempfile.TemporaryDirectory() as folder:
                    started = time.perf_counter()
                    seconds, arrays[name] = way(Path(folder))
                    times[name].append((seconds, time.perf_counter() - started))
                on_progress(f"{repetition + 1} of {repetitions}: {name} {seconds:.2f} s")
        return OverheadReport(
            rows=tuple(
                OverheadRow(name, tuple(item[0] for item in values), tuple(item[1] for item in values))
                for name, values in times.items()
            ),
            arrays_equal=_equal(arrays["loop"], arrays["inprocess"]),
            threads=torch.get_num_threads(),
            rounds=step.rounds,
        )
    finally:
        gc.unfreeze()
        flower.setLevel(level)
        torch.set_num_threads(threads_before)


def _plain_loop(scenario: Scenario) -> tuple[float, Arrays | None]:
    """Federated averaging as anyone would write it without a framework."""
    step = scenario.timeline[0].train
    settings = scenario.training if step is None else scenario.training.overridden(step)
    if settings.augment or settings.fraction < 1 or settings.batch_norm != "train":
        raise InvalidParameterError(
            f"{scenario.source_file}: the plain loop knows no augmentation, share of samples or frozen BatchNorm"
        )
    source = source_of(scenario.data)
    count = scenario.clients.count
    clients = [
        client_data(
            source,
            client,
            count,
            partition=scenario.clients.partition,
            parameters=scenario.clients.parameters,
            validation_fraction=scenario.data.validation_fraction,
            seed=scenario.seed,
        ).train
        for client in range(count)
    ]
    model = new_model(scenario, source)
    model.train()
    server = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}
    total = sum(len(client) for client in clients)
    started = time.perf_counter()
    for server_round in range(1, (step.rounds if step is not None else 0) + 1):
        summed: Arrays = {}
        for index, samples in enumerate(clients):
            if len(samples) == 0:
                continue
            model.load_state_dict({name: torch.from_numpy(value) for name, value in server.items()})
            generator = seeded_generator(scenario.seed, "train", server_round, str(index))
            optimizer = torch.optim.SGD(
                model.parameters(),
                lr=settings.learning_rate,
                momentum=settings.momentum,
                weight_decay=settings.weight_decay,
            )
            for _ in range(settings.local_epochs):
                order = torch.randperm(len(samples), generator=generator)
                for batch in order.split(settings.batch_size):
                    optimizer.zero_grad(set_to_none=True)
                    images, labels = samples.batch(batch)
                    functional.cross_entropy(model(images), labels).backward()
                    optimizer.step()
            for name, tensor in model.state_dict().items():
                share = tensor.numpy() * (len(samples) / total)
                summed[name] = summed[name] + share if name in summed else share
        server = {name: np.asarray(value, dtype=server[name].dtype) for name, value in summed.items()}
    return time.perf_counter() - started, dict(server)


def _in_process(scenario: Scenario, folder: Path) -> tuple[float, Arrays | None]:
    from fed_unlearn.simulations.client_app import app
    from fed_unlearn.simulations.inprocess import InProcessGrid

    write_scenario(scenario, folder)
    grid = InProcessGrid(
        app, scenario.clients.count, run_config={"scenario": str(folder / SCENARIO_FILE), "out": str(folder)}
    )
    return _train_on(grid, scenario, folder)


def _train_on(grid: Grid, scenario: Scenario, folder: Path) -> tuple[float, Arrays | None]:
    step = scenario.timeline[0].train
    inner = new_inner_strategy(scenario)
    strategy = ContinualUnlearning(inner, ledger=folder / "ledger.db", seed=scenario.seed, evaluate_every=10**9)
    inner.fraction_evaluate = 0.0  # type: ignore[attr-defined]
    result = strategy.start(
        grid,
        prepare(scenario).initial,
        num_rounds=step.rounds if step is not None else 0,
        train_config=training_config(
            scenario.training if step is None else scenario.training.overridden(step), scenario.seed
        ),
    )
    strategy.ledger.close()
    return result.training_seconds, _arrays(result.arrays)


def _on_ray(scenario: Scenario, folder: Path) -> tuple[float, Arrays | None]:
    from fed_unlearn.simulations.engines.ray_engine import RayResources, run_on_ray

    quiet = scenario.model_copy(update={"run": scenario.run.model_copy(update={"evaluate_every": 10**6})})
    write_scenario(quiet, folder)
    run = run_on_ray(folder, RayResources(clients=scenario.clients.count))
    if not run.completed:
        raise FedUnlearnError(f"the run on Ray ended {run.status}: " + " | ".join(run.last_lines[-3:]))
    return RunResults.load(folder).training.seconds, None


def _arrays(record: ArrayRecord) -> Arrays:
    return {name: array.numpy() for name, array in record.items()}


def _equal(first: Arrays | None, second: Arrays | None) -> bool:
    if first is None or second is None or first.keys() != second.keys():
        return False
    return all(
        first[name].dtype == second[name].dtype and first[name].tobytes() == second[name].tobytes() for name in first
    )
