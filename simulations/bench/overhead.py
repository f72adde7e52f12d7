"""What the federation costs: the same training is timed as a plain PyTorch loop, in process, and on Ray."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from fed_unlearn.arrays import as_array
from fed_unlearn.batch_plan import split_into_batches
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import FedUnlearnError, InvalidParameterError
from fed_unlearn.model_inputs import model_inputs
from fed_unlearn.seeding import seeded_generator
from fed_unlearn.simulations.run.assembly import new_inner_strategy
from fed_unlearn.simulations.run.driver import frozen_objects, in_process_grid, prepare, write_scenario
from fed_unlearn.simulations.run.logs import quiet_flower
from fed_unlearn.simulations.run.results import RunResults
from fed_unlearn.simulations.scenario.sections import Scenario, TrainingSection
from fed_unlearn.simulations.task import data_of_client, new_model, source_of, training_config, training_settings
from fed_unlearn.strategies import ContinualUnlearning
from fed_unlearn.training import train_locally

Arrays = dict[str, NDArray[Any]]
Way = Callable[[Path], tuple[float, Arrays | None]]
LocalTraining = Callable[[nn.Module, SampleSet, TrainingSection, torch.Generator], object]


@dataclass(frozen=True)
class OverheadRow:
    """The times of one way to run the training.

    Attributes
    ----------
    name : str
        ``loop``, ``same-steps``, ``inprocess`` or ``ray``. ``same-steps`` is the loop with the library's own training
        in place of ``torch.optim``: what ``inprocess`` takes beyond it is all that the federation adds.
    seconds : tuple of float
        Seconds of the training rounds, one entry for each repetition.
    wall_seconds : tuple of float
        Seconds of everything, with the start of the engine, the identification of clients and the audit that accepts
        the model.
    """

    name: str
    seconds: tuple[float, ...]
    wall_seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of ``seconds`` over the repetitions."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class OverheadReport:
    """The times of all ways to run the training.

    Attributes
    ----------
    rows : tuple of OverheadRow
        The plain loop is first.
    arrays_equal : bool
        Whether both loops and the in-process engine end with the same arrays, bit for bit.
    threads : int
        Torch threads of the loop and of the in-process engine.
    rounds : int
        Number of training rounds.
    """

    rows: tuple[OverheadRow, ...]
    arrays_equal: bool
    threads: int
    rounds: int

    def ratio(self, row: OverheadRow, to: OverheadRow | None = None) -> float:
        """The median, over repetitions, of a row's seconds divided by those of another row, or of the loop."""
        other = self.rows[0] if to is None else to
        return statistics.median(mine / plain for mine, plain in zip(row.seconds, other.seconds, strict=True))

    def row(self, name: str) -> OverheadRow:
        """The row of a name."""
        return next(row for row in self.rows if row.name == name)


def measure_overhead(
    scenario: Scenario, *, repetitions: int, with_ray: bool = True, on_progress: Callable[[str], None]
) -> OverheadReport:
    """Run a scenario's first training step in every way, in turns, so that a machine that slows down slows all alike.

    Parameters
    ----------
    scenario : Scenario
        The scenario. It uses ``FedAvg``, since the plain loop averages in the same way.
    repetitions : int
        Number of measurements of each way, at least 1.
    with_ray : bool
        Whether the Ray engine is measured too.
    on_progress : callable
        Called with a line of text after every measurement.

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
    first = scenario.model_copy(update={"timeline": scenario.timeline[:1]})
    settings = scenario.training.overridden(step)
    ways: dict[str, Way] = {
        "loop": lambda folder: _plain_loop(first, settings, step.rounds, _descend),
        "same-steps": lambda folder: _plain_loop(first, settings, step.rounds, _own_training(settings)),
        "inprocess": lambda folder: _in_process(first, settings, step.rounds, folder),
    }
    with frozen_objects(), quiet_flower():
        torch.set_num_threads(scenario.run.threads or torch.get_num_threads())
        for way in ways.values():
            _timed(way)  # the first run of each way pays for its set-up
        if with_ray:
            ways["ray"] = lambda folder: _on_ray(first, folder)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        arrays: dict[str, Arrays | None] = {}
        for repetition in range(1, repetitions + 1):
            for name, way in ways.items():
                seconds, wall_seconds, arrays[name] = _timed(way)
                times[name].append((seconds, wall_seconds))
                on_progress(f"{repetition} of {repetitions}: {name} {seconds:.2f} s")
        return OverheadReport(
            rows=tuple(OverheadRow(name, *zip(*values, strict=True)) for name, values in times.items()),
            arrays_equal=all(_equal(arrays["loop"], arrays[name]) for name in ("same-steps", "inprocess")),
            threads=torch.get_num_threads(),
            rounds=step.rounds,
        )


def _timed(way: Way) -> tuple[float, float, Arrays | None]:
    """Seconds of the training rounds, seconds of everything, and the arrays at the end, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        seconds, arrays = way(Path(folder))
        return seconds, time.perf_counter() - started, arrays


def _plain_loop(
    scenario: Scenario, settings: TrainingSection, rounds: int, train: LocalTraining
) -> tuple[float, Arrays]:
    """Federated averaging as anyone would write it without a framework."""
    if settings.augment or settings.fraction < 1 or settings.batch_norm != "train":
        raise InvalidParameterError(
            f"{scenario.source_file}: the plain loop knows no augmentation, share of samples or frozen BatchNorm"
        )
    source = source_of(scenario.data)
    clients = [data_of_client(scenario, source, client).train for client in range(scenario.clients.count)]
    model = new_model(scenario, source)
    model.train()
    server = {name: as_array(tensor).copy() for name, tensor in model.state_dict().items()}
    total = sum(len(client) for client in clients)
    started = time.perf_counter()
    for server_round in range(1, rounds + 1):
        summed: Arrays = {}
        for index, samples in enumerate(clients):
            if len(samples) == 0:
                continue
            model.load_state_dict({name: torch.from_numpy(value) for name, value in server.items()})
            train(model, samples, settings, seeded_generator(scenario.seed, "train", server_round, str(index)))
            for name, tensor in model.state_dict().items():
                share = as_array(tensor) * (len(samples) / total)
                summed[name] = summed[name] + share if name in summed else share
        server = {name: np.asarray(value, dtype=server[name].dtype) for name, value in summed.items()}
    return time.perf_counter() - started, dict(server)


def _descend(model: nn.Module, samples: SampleSet, settings: TrainingSection, generator: torch.Generator) -> None:
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    for _ in range(settings.local_epochs):
        order = torch.randperm(len(samples), generator=generator)
        for batch in split_into_batches(order, settings.batch_size):
            optimizer.zero_grad(set_to_none=True)
            images, labels = samples.batch(batch)
            logits = model(model_inputs(model, images, pack=False)).float()
            functional.cross_entropy(logits, labels).backward()
            optimizer.step()


def _own_training(settings: TrainingSection) -> LocalTraining:
    """The training of the library's own clients, its settings read once."""
    own = training_settings(training_config(settings, seed=0))
    return lambda model, samples, _, generator: train_locally(model, samples, own, generator)


def _in_process(scenario: Scenario, settings: TrainingSection, rounds: int, folder: Path) -> tuple[float, Arrays]:
    inner = cast(FedAvg, new_inner_strategy(scenario))
    strategy = ContinualUnlearning(inner, ledger=folder / "ledger.db", seed=scenario.seed, evaluate_every=10**9)
    inner.fraction_evaluate = 0.0
    result = strategy.start(
        in_process_grid(scenario, folder),
        prepare(scenario).initial,
        num_rounds=rounds,
        train_config=training_config(settings, scenario.seed),
    )
    strategy.ledger.close()
    return result.training_seconds, {name: array.numpy() for name, array in result.arrays.items()}


def _on_ray(scenario: Scenario, folder: Path) -> tuple[float, None]:
    from fed_unlearn.simulations.engines.ray_engine import RayResources, run_on_ray

    quiet = scenario.model_copy(update={"run": scenario.run.model_copy(update={"evaluate_every": 10**6})})
    write_scenario(quiet, folder)
    run = run_on_ray(folder, RayResources(clients=scenario.clients.count))
    if not run.completed:
        raise FedUnlearnError(f"the run on Ray ended {run.status}: " + " | ".join(run.last_lines[-3:]))
    return RunResults.load(folder).training.seconds, None


def _equal(first: Arrays | None, second: Arrays | None) -> bool:
    if first is None or second is None or first.keys() != second.keys():
        return False
    return all(
        first[name].dtype == second[name].dtype and first[name].tobytes() == second[name].tobytes() for name in first
    )
