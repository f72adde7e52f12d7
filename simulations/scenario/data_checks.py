"""What can be checked about a scenario only with its data at hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from fed_unlearn.data.images import ClientData
from fed_unlearn.data.sources import ImageSource
from fed_unlearn.models import load_checkpoint
from fed_unlearn.protocol.arrivals import arriving
from fed_unlearn.simulations.run.stream import Experiences, benchmark_of, experiences_of
from fed_unlearn.simulations.scenario import check_against_data, check_class_split
from fed_unlearn.simulations.scenario.checks import forget_steps
from fed_unlearn.simulations.scenario.errors import errors_at, scenario_error
from fed_unlearn.simulations.scenario.sections import Scenario
from fed_unlearn.simulations.task import data_of_client, new_model, source_of


@dataclass(frozen=True)
class Parts:
    """The parts of a scenario that fit each other.

    Attributes
    ----------
    source : ImageSource
    experiences : Experiences or None
        None where all samples are there from the start.
    model : nn.Module
        That the run starts from: fresh, or the checkpoint's.
    benchmark : CLScenario or None
        That the experiences come from.
    """

    source: ImageSource
    experiences: Experiences | None
    model: nn.Module
    benchmark: Any | None = None


def check_parts(scenario: Scenario) -> Parts:
    """Load the data, the benchmark and the model of a scenario, and check every part against the others.

    Raises
    ------
    ScenarioError
        Naming the place in the file, the value and what is allowed.
    """
    with errors_at(scenario, "data", "dataset"):
        source = source_of(scenario.data)
    check_class_split(scenario, source.class_count)
    benchmark = benchmark_of(scenario, source) if scenario.stream is not None else None
    experiences = experiences_of(scenario, source, benchmark) if benchmark is not None else None
    check_against_data(scenario, source.class_count, experiences)
    check_clients(scenario, source, experiences)
    with errors_at(scenario, "model"):
        model = new_model(scenario, source)
    if scenario.model.checkpoint is not None:
        with errors_at(scenario, "model", "checkpoint"):
            load_checkpoint(model, Path(scenario.model.checkpoint))
    return Parts(source, experiences, model, benchmark)


def check_clients(scenario: Scenario, source: ImageSource, experiences: Experiences | None = None) -> None:
    """Check that the data can be divided as a scenario asks, and that clients hold what is to be forgotten.

    A client's samples are those that have arrived by then, without classes that were forgotten before.

    Parameters
    ----------
    scenario : Scenario
    source : ImageSource
        Its data.
    experiences : Experiences, optional
        Of its stream; all samples are there from the start without it.

    Raises
    ------
    ScenarioError
        If the partitioner or one of its parameters is unknown, or a client holds too few samples.
    """
    kept = set(range(source.class_count))
    for place, step in forget_steps(scenario):
        kept -= set(step.class_ids)
        if step.client is None or step.samples is None:
            continue
        data = _data(scenario, source, step.client)
        if experiences is not None:
            data = arriving(data, list(experiences.held(data.train.ids).values()))
        held = data.arrived(scenario.arrived_at(int(place[1]))).of_classes(kept)
        then = " then" if len(kept) < source.class_count or scenario.stream is not None else ""
        problem = f"{step.samples} were given; client {step.client} holds "
        if step.of_class is not None:
            of_class = len(held.of_classes({step.of_class}))
            if step.samples > of_class:
                problem += f"{of_class} of class {step.of_class}{then}"
                raise scenario_error(scenario, (*place, "samples"), problem)
        if step.samples >= len(held):
            problem += f"{len(held)}{then} and must keep at least one"
            raise scenario_error(scenario, (*place, "samples"), problem)
    _data(scenario, source, 0)


def _data(scenario: Scenario, source: ImageSource, client: int) -> ClientData:
    with errors_at(scenario, "clients"):
        return data_of_client(scenario, source, client)
