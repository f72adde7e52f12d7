"""The training experiences of a scenario: an Avalanche benchmark, divided among the clients.

Clients do not import this module. Messages say which of a client's samples arrive with which experience.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from fed_unlearn.checkpoints import write_atomically
from fed_unlearn.data.sources import ImageSource
from fed_unlearn.errors import FedUnlearnError, InvalidDataError, InvalidParameterError
from fed_unlearn.registry import imported_callable
from fed_unlearn.seeding import derive_seed, isolated_globals
from fed_unlearn.simulations.scenario.benchmark_checks import check_served_as_held
from fed_unlearn.simulations.scenario.errors import errors_at, scenario_error
from fed_unlearn.simulations.scenario.sections import Scenario, StreamSection
from fed_unlearn.simulations.task import training_positions_of
from fed_unlearn.text import quoted

FILE_NAME = "stream.json"
"""The file in the run folder that identifies the experiences of the stream."""


@dataclass(frozen=True)
class Experiences:
    """The samples and classes that arrive with each training experience of a scenario.

    Attributes
    ----------
    ids : tuple of tuples of str
        The sample ids of each experience, in order.
    classes : tuple of frozensets of int
        The classes of these samples.
    """

    ids: tuple[tuple[str, ...], ...]
    classes: tuple[frozenset[int], ...]

    def __len__(self) -> int:
        return len(self.ids)

    def arrived_classes(self, number: int) -> tuple[int, ...]:
        """The classes, ascending, of which samples have arrived after an experience, counted from 1."""
        return tuple(sorted(frozenset[int]().union(*self.classes[:number])))

    def held(self, ids: Iterable[str]) -> dict[int, tuple[str, ...]]:
        """Divide training samples by the experience that they belong to, counted from 1. Their order stays."""
        parts: dict[int, list[str]] = {number: [] for number in range(1, len(self) + 1)}
        for sample_id in ids:
            if sample_id in self._number_of:
                parts[self._number_of[sample_id]].append(sample_id)
        return {number: tuple(part) for number, part in parts.items()}

    def digest(self) -> str:
        """The SHA-256 digest of the ids of all experiences, in hexadecimal."""
        return hashlib.sha256(json.dumps(self.ids).encode()).hexdigest()

    @cached_property
    def _number_of(self) -> dict[str, int]:
        return {sample_id: number for number, part in enumerate(self.ids, start=1) for sample_id in part}


def benchmark_of(scenario: Scenario, source: ImageSource) -> Any:
    """Make the Avalanche benchmark that a scenario's training experiences come from.

    Its training stream has the training samples of all clients, in the source's order. Samples that clients hold back
    for validation are in no experience. Its test stream has the source's test samples.

    Parameters
    ----------
    scenario : Scenario
    source : ImageSource
        The data of the scenario.

    Returns
    -------
    avalanche.benchmarks.CLScenario
        The benchmark; one experience with all samples if the scenario has no stream. The same scenario gives the same
        benchmark. A user's callable must draw from the global generators of ``random``, numpy and torch for that.

    Raises
    ------
    ScenarioError
        If the benchmark is unknown, or cannot be made of the data.
    """
    from fed_unlearn.avalanche.streams import benchmarks
    from fed_unlearn.avalanche.streams.samples import as_avalanche_dataset

    with errors_at(scenario, "clients"):
        positions = torch.cat(training_positions_of(scenario, source)).sort().values
    train = as_avalanche_dataset(source.train).subset(positions.tolist())
    test = as_avalanche_dataset(source.test)
    stream, seed, order = scenario.stream, scenario.seed, None
    if stream is not None and stream.class_order is not None:
        with errors_at(scenario, "stream", "class-order"):
            order = source.classes.indices(stream.class_order)
    with errors_at(scenario, "stream"):
        if stream is None:
            return benchmarks.new_instances(train, test, experiences=1, seed=seed)
        if stream.benchmark == "new-instances":
            return benchmarks.new_instances(train, test, experiences=stream.number, seed=seed)
        if stream.benchmark == "class-incremental":
            return benchmarks.class_incremental(
                train,
                test,
                experiences=stream.number,
                seed=seed,
                class_order=order,
                class_count=source.class_count,
            )
    with errors_at(scenario, "stream", "benchmark"):
        return _called(stream, order, train, test, seed)


def _called(stream: StreamSection, order: Sequence[int] | None, train: Any, test: Any, seed: int) -> Any:
    """Call the user's callable. The scenario's seed sets the global generators while it runs."""
    make = imported_callable(stream.benchmark)
    own = {"experiences": stream.experiences, "class_order": order}
    keywords = {**stream.parameters, **{key: value for key, value in own.items() if value is not None}}
    try:
        with isolated_globals(derive_seed(seed, "benchmark")):
            return make(train, test, **keywords)
    except FedUnlearnError:
        raise
    except Exception as error:  # the user's code may raise anything
        given = ", ".join(f"{key}={quoted(value)}" for key, value in keywords.items()) or "no parameters"
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InvalidParameterError(f"{stream.benchmark} made no benchmark with {given} ({reason})") from error


def experiences_of(scenario: Scenario, source: ImageSource, benchmark: Any | None = None) -> Experiences | None:
    """The training experiences of a scenario, or None if it has no stream.

    Parameters
    ----------
    scenario : Scenario
    source : ImageSource
        The data of the scenario.
    benchmark : CLScenario, optional
        The benchmark of the scenario. It is made if it is not given.

    Raises
    ------
    ScenarioError
        If the benchmark cannot be made, if its training stream has other samples than the clients' training samples or
        one of them twice, or if a stream shows samples differently than clients hold them.
    """
    if scenario.stream is None:
        return None
    benchmark = benchmark_of(scenario, source) if benchmark is None else benchmark
    from fed_unlearn.avalanche.streams.benchmarks import experience_ids

    positions = torch.cat(training_positions_of(scenario, source)).tolist()
    labels = source.train.labels.tolist()
    label_of = {source.train.ids[position]: labels[position] for position in positions}
    with errors_at(scenario, "stream", "benchmark"):
        ids = experience_ids(benchmark)
        for number, part in enumerate(ids, start=1):
            unknown = next((sample_id for sample_id in part if sample_id not in label_of), None)
            if unknown is not None:
                raise InvalidDataError(
                    f"experience {number} has a sample {quoted(unknown)}, which is not a training sample of any client;"
                    " expected samples of the given training set, under their own ids"
                )
        check_served_as_held(benchmark, "train", source.train)
        check_served_as_held(benchmark, "test", source.test)
        if scenario.reporting.loggers and not benchmark.streams.get("test"):
            raise InvalidDataError("the benchmark has no test stream; [reporting] expects one to evaluate models on")
    return Experiences(ids, tuple(frozenset(label_of[sample_id] for sample_id in part) for part in ids))


def keep_experiences(scenario: Scenario, experiences: Experiences, out: Path) -> None:
    """Write a digest of a run's experiences into its folder. If the run continues, compare them with that digest.

    Parameters
    ----------
    scenario : Scenario
    experiences : Experiences
        The experiences of its stream.
    out : Path
        The run folder.

    Raises
    ------
    ScenarioError
        If the run began with other experiences, since the callable does not make the same benchmark each time.
    InvalidDataError
        If the file cannot be read.
    """
    path, digest = out / FILE_NAME, experiences.digest()
    if not path.exists():
        body = {"experiences": [len(part) for part in experiences.ids], "sha256": digest}
        write_atomically(path, json.dumps(body).encode())
        return
    try:
        known = json.loads(path.read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidDataError(f"{path}: not readable ({error!r}); restore it from a backup") from None
    if known != digest:
        problem = (
            f"gives experiences of {', '.join(str(len(part)) for part in experiences.ids)} samples that are not those"
            f" that the run in {out} was begun with; expected the same benchmark each time: draw from the global"
            " generators, which are seeded, or from one with a seed of its own, or start in a new folder"
        )
        raise scenario_error(scenario, ("stream", "benchmark"), problem)


def arrivals_of_clients(
    scenario: Scenario, source: ImageSource, experiences: Experiences
) -> dict[str, dict[int, tuple[str, ...]]]:
    """The part of each experience that each client holds: sample ids by client and by experience, counted from 1."""
    return {
        str(client): experiences.held(source.train.ids[position] for position in positions.tolist())
        for client, positions in enumerate(training_positions_of(scenario, source))
    }
