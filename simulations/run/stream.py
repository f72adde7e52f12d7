"""The training experiences of a scenario: an Avalanche benchmark, as the driver divides it among clients.

Nothing here is imported by clients: each is told in messages which of its samples come when.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from fed_unlearn.data.sources import ImageSource
from fed_unlearn.errors import FedUnlearnError, InvalidDataError, InvalidParameterError
from fed_unlearn.files import write_atomically
from fed_unlearn.registry import imported_callable
from fed_unlearn.seeding import derive_seed, isolated_globals
from fed_unlearn.simulations.scenario.benchmark_checks import check_served_as_held
from fed_unlearn.simulations.scenario.errors import errors_at, scenario_error
from fed_unlearn.simulations.scenario.sections import Scenario, StreamSection
from fed_unlearn.simulations.task import training_positions_of

FILE_NAME = "stream.json"
"""In the run folder: what tells one stream's experiences from another's."""


@dataclass(frozen=True)
class Experiences:
    """Which samples of which classes come with each training experience of a scenario.

    Attributes
    ----------
    ids : tuple of tuples of str
        Sample ids of each experience, in order.
    classes : tuple of frozensets of int
        The classes of these samples.
    """

    ids: tuple[tuple[str, ...], ...]
    classes: tuple[frozenset[int], ...]

    def __len__(self) -> int:
        return len(self.ids)

    def arrived_classes(self, number: int) -> tuple[int, ...]:
        """The classes of which samples have come once an experience, from 1, has; ascending."""
        return tuple(sorted(frozenset[int]().union(*self.classes[:number])))

    def held(self, ids: Iterable[str]) -> dict[int, tuple[str, ...]]:
        """The part of each experience, by number from 1, that is among some training samples, in their order."""
        parts: dict[int, list[str]] = {number: [] for number in range(1, len(self) + 1)}
        for sample_id in ids:
            if sample_id in self._number_of:
                parts[self._number_of[sample_id]].append(sample_id)
        return {number: tuple(part) for number, part in parts.items()}

    def digest(self) -> str:
        """SHA-256, in hexadecimal, of the ids of all experiences, in order."""
        return hashlib.sha256(json.dumps(self.ids).encode()).hexdigest()

    @cached_property
    def _number_of(self) -> dict[str, int]:
        return {sample_id: number for number, part in enumerate(self.ids, start=1) for sample_id in part}


def benchmark_of(scenario: Scenario, source: ImageSource) -> Any:
    """The Avalanche benchmark that a scenario's training experiences come from.

    Its training stream is made of all clients' training samples, in the source's order: what clients hold back for
    validation is in no experience. Its test stream is made of the source's test samples.

    Parameters
    ----------
    scenario : Scenario
    source : ImageSource
        Its data.

    Returns
    -------
    avalanche.benchmarks.CLScenario
        One experience of everything where the scenario has no stream. The same for the same scenario, as far as a
        callable of the user's draws from the global generators of ``random``, numpy and torch alone.

    Raises
    ------
    ScenarioError
        If there is no such benchmark, or it cannot be made of the data.
    """
    from fed_unlearn.avalanche.streams import benchmarks
    from fed_unlearn.avalanche.streams.samples import as_avalanche_dataset

    with errors_at(scenario, "clients"):
        positions = torch.cat(training_positions_of(scenario, source)).sort().values
    train = as_avalanche_dataset(source.train).subset(positions.tolist())
    test = as_avalanche_dataset(source.test)
    stream, seed = scenario.stream, scenario.seed
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
                class_order=stream.class_order,
                class_count=source.class_count,
            )
    with errors_at(scenario, "stream", "benchmark"):
        return _called(stream, train, test, seed)


def _called(stream: StreamSection, train: Any, test: Any, seed: int) -> Any:
    """What the user's callable returns; what it draws from global generators is seeded by the scenario."""
    make = imported_callable(stream.benchmark)
    own = {"experiences": stream.experiences, "class_order": stream.class_order}
    keywords = {**stream.parameters, **{key: value for key, value in own.items() if value is not None}}
    try:
        with isolated_globals(derive_seed(seed, "benchmark")):
            return make(train, test, **keywords)
    except FedUnlearnError:
        raise
    except Exception as error:  # the user's own code: whatever it raises is a matter of the scenario
        given = ", ".join(f"{key}={value!r}" for key, value in keywords.items()) or "no parameters"
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InvalidParameterError(f"{stream.benchmark} made no benchmark with {given} ({reason})") from error


def experiences_of(scenario: Scenario, source: ImageSource, benchmark: Any | None = None) -> Experiences | None:
    """The training experiences of a scenario; None where it has no stream.

    Parameters
    ----------
    scenario : Scenario
    source : ImageSource
        Its data.
    benchmark : CLScenario, optional
        Of the scenario; made where it is not given.

    Raises
    ------
    ScenarioError
        If the benchmark cannot be made, or its training stream is not made of the clients' training samples, each in at
        most one experience, or either of its streams shows samples otherwise than clients hold them.
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
                    f"experience {number} has a sample {unknown!r}, which is not a training sample of any client;"
                    " expected samples of the given training set, under their own ids"
                )
        check_served_as_held(benchmark, "train", source.train)
        check_served_as_held(benchmark, "test", source.test)
        if scenario.reporting.loggers and not benchmark.streams.get("test"):
            raise InvalidDataError("the benchmark has no test stream; [reporting] expects one to evaluate models on")
    return Experiences(ids, tuple(frozenset(label_of[sample_id] for sample_id in part) for part in ids))


def keep_experiences(scenario: Scenario, experiences: Experiences, out: Path) -> None:
    """Write down, in a run folder, which experiences its run has; or see that they are those that it was begun with.

    Parameters
    ----------
    scenario : Scenario
    experiences : Experiences
        Of its stream.
    out : Path
        The run folder.

    Raises
    ------
    ScenarioError
        If the run was begun with others: the callable does not make the same benchmark each time.
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
    """The part of each experience that each client of a scenario holds: sample ids by client and number, from 1."""
    return {
        str(client): experiences.held(source.train.ids[position] for position in positions.tolist())
        for client, positions in enumerate(training_positions_of(scenario, source))
    }
