"""Checks of a scenario that need its data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from flwr.app import ArrayRecord

from fed_unlearn.array_types import check_array_types
from fed_unlearn.arrays import pack
from fed_unlearn.class_names import UNNAMED_CLASSES, ClassNames
from fed_unlearn.data.experiences import class_split
from fed_unlearn.data.images import ClientData
from fed_unlearn.data.sources import ImageSource
from fed_unlearn.errors import InvalidParameterError, InvalidRequestError, collected, problems_of
from fed_unlearn.models import load_checkpoint
from fed_unlearn.protocol.instructions import arriving
from fed_unlearn.simulations.run.stream import Experiences, benchmark_of, experiences_of
from fed_unlearn.simulations.scenario.checks import forget_steps
from fed_unlearn.simulations.scenario.errors import errors_at, problem_at, raise_any, scenario_error
from fed_unlearn.simulations.scenario.sections import ForgetStep, Scenario
from fed_unlearn.simulations.task import data_of_client, new_model, source_of, trigger_of
from fed_unlearn.text import quoted


@dataclass(frozen=True)
class Prepared:
    """A scenario with its parts, which were checked against each other.

    Attributes
    ----------
    scenario : Scenario
    source : ImageSource
    initial : ArrayRecord
        The model that the run starts from, with fresh weights or those of the checkpoint.
    experiences : Experiences or None
        None if all samples are there from the start.
    benchmark : CLScenario or None
        The benchmark that the experiences come from. A user's callable is called only once.
    """

    scenario: Scenario
    source: ImageSource
    initial: ArrayRecord
    experiences: Experiences | None
    benchmark: Any | None


def check_parts(scenario: Scenario) -> Prepared:
    """Load the data, the benchmark and the model of a scenario, and check every part against the others.

    Raises
    ------
    ScenarioError
        If there is a problem. The message has a line for each, with place in the file, value and what is allowed.
    """
    with errors_at(scenario, "data", "dataset"):
        source = source_of(scenario.data)
    problems = problems_of(check_class_split, scenario, source.class_count, source.classes)
    benchmark, experiences = None, None
    if scenario.stream is not None and not problems:
        with collected(problems):
            benchmark = benchmark_of(scenario, source)
            experiences = experiences_of(scenario, source, benchmark)
    if scenario.stream is None or experiences is not None:
        problems += problems_of(check_against_data, scenario, source.class_count, experiences, source.classes)
        problems += problems_of(check_clients, scenario, source, experiences)
    with collected(problems), errors_at(scenario, "model"):
        model = new_model(scenario, source)
        if scenario.model.checkpoint is not None:
            with errors_at(scenario, "model", "checkpoint"):
                load_checkpoint(model, Path(scenario.model.checkpoint))
        arrays = pack(model.state_dict())
        check_array_types(arrays)
    raise_any(problems)
    return Prepared(scenario, source, arrays, experiences, benchmark)


def check_against_data(
    scenario: Scenario,
    class_count: int,
    experiences: Experiences | None = None,
    names: ClassNames = UNNAMED_CLASSES,
) -> None:
    """Check the experiences and classes that a scenario names against those of its data.

    Parameters
    ----------
    scenario : Scenario
    class_count : int
        The classes of the data are 0 to ``class_count - 1``.
    experiences : Experiences, optional
        The experiences of its stream. Without them all classes are there from the start.
    names : ClassNames, optional
        What the data calls its classes. Without any, the scenario names them by their index.

    Raises
    ------
    ScenarioError
        If the stream does not have an experience that the scenario trains on, if a class does not exist or has not
        arrived, or if fewer than two classes would be left.
    """
    of_classes = _problems_with_classes(scenario, class_count, experiences, names)
    raise_any([*_problems_with_experiences(scenario, experiences), *of_classes])


def _problems_with_experiences(scenario: Scenario, experiences: Experiences | None) -> Iterator[str]:
    for index, entry in enumerate(scenario.timeline):
        if experiences is None or entry.train is None or entry.train.experience == "all":
            continue
        if entry.train.experience > (number := len(experiences)):
            problem = f"{entry.train.experience} is not an experience of the stream (1..{number})"
            yield problem_at(scenario, ("timeline", index, "train", "experience"), problem)


def _problems_with_classes(
    scenario: Scenario, class_count: int, experiences: Experiences | None, names: ClassNames
) -> Iterator[str]:
    forgotten: set[int] = set()
    for place, step in forget_steps(scenario):
        if unknown := _unknown_labels(scenario, step, class_count, names):
            for key, problem in unknown:
                yield problem_at(scenario, (*place, key), problem)
            continue
        class_ids = step.class_indices(names)
        arrived = tuple(range(class_count))
        if experiences is not None:
            arrived = experiences.arrived_classes(scenario.arrived_at(int(place[1])))
        for class_id in class_ids:
            if class_id not in arrived:
                problem = f"{names.shown(class_id)} has not arrived by then; classes so far are {names.listed(arrived)}"
                yield problem_at(scenario, (*place, "classes" if step.class_ is None else "class"), problem)
        left = len(set(arrived) - forgotten - set(class_ids))
        if step.scope != "class" or left >= 2:
            forgotten |= set(class_ids)
        else:
            so_far = "" if len(arrived) == class_count else " that have arrived by then"
            problem = f"leaves {left} of {len(arrived)} classes{so_far}; at least 2 must stay"
            yield problem_at(scenario, place, problem)


def _unknown_labels(scenario: Scenario, step: ForgetStep, class_count: int, names: ClassNames) -> list[tuple[str, str]]:
    """The key and the problem of each class of a request that the data does not have."""
    key, problems = "classes" if step.class_ is None else "class", list[tuple[str, str]]()
    given = [
        *((key, label) for label in step.class_ids),
        *([] if step.of_class is None else [("of-class", step.of_class)]),
    ]
    for place, label in given:
        try:
            known = names.index(label) < class_count
        except InvalidRequestError as error:
            known, text = False, str(error)
        else:
            text = ""
        if not known:
            data = quoted(_short_name(scenario))
            plain = f"{label} is not a class of {data} (0..{class_count - 1})"
            problems.append(
                (place, text.replace("a class of the data", f"a class of {data}") if names.differ else plain)
            )
    return problems


def check_class_split(scenario: Scenario, class_count: int, names: ClassNames = UNNAMED_CLASSES) -> None:
    """Check that the classes of the data can be divided among class-incremental experiences as the scenario asks.

    Raises
    ------
    ScenarioError
        If there are more experiences than classes, or the order does not list every class once.
    """
    stream = scenario.stream
    if stream is None or stream.benchmark != "class-incremental":
        return
    if stream.number > class_count:
        problem = f"{stream.number} was given; {quoted(_short_name(scenario))} has {class_count} classes, one each"
        raise scenario_error(scenario, ("stream", "experiences"), problem)
    try:
        order = None if stream.class_order is None else names.indices(stream.class_order)
        class_split(class_count, stream.number, scenario.seed, order)
    except (InvalidParameterError, InvalidRequestError) as error:
        raise scenario_error(scenario, ("stream", "class-order"), str(error)) from None


def _short_name(scenario: Scenario) -> str:
    kind, separator, place = scenario.data.dataset.partition(":")
    return f"{kind}{separator}{Path(place).name}" if Path(place).is_absolute() else scenario.data.dataset


def check_clients(scenario: Scenario, source: ImageSource, experiences: Experiences | None = None) -> None:
    """Check that the data can be divided as a scenario asks, and that clients hold what they are to forget.

    What a client holds are the samples that have arrived by then, without classes that were forgotten before.

    Parameters
    ----------
    scenario : Scenario
    source : ImageSource
    experiences : Experiences, optional
        The experiences of its stream. Without them all samples are there from the start.

    Raises
    ------
    ScenarioError
        If the partitioner or one of its parameters is unknown, a client holds too few samples, or the trigger of a
        backdoor fits neither the classes nor the images.
    """
    with errors_at(scenario, "clients", "backdoor"):
        trigger = trigger_of(scenario, source)
        if trigger is not None:
            trigger.shown(source.train.subset(torch.arange(1)))
    _data(scenario, source, 0)
    raise_any(_problems_with_samples(scenario, source, experiences))


def _problems_with_samples(scenario: Scenario, source: ImageSource, experiences: Experiences | None) -> Iterator[str]:
    kept, names = set(range(source.class_count)), source.classes
    for place, step in forget_steps(scenario):
        if _unknown_labels(scenario, step, source.class_count, names):
            continue  # told where classes are checked
        kept -= set(step.class_indices(names))
        if step.client is None or step.samples is None:
            continue
        data = _data(scenario, source, step.client)
        if experiences is not None:
            data = arriving(data, list(experiences.held(data.train.ids).values()))
        held = data.arrived(scenario.arrived_at(int(place[1]))).of_classes(kept)
        then = " then" if len(kept) < source.class_count or scenario.stream is not None else ""
        asked = None if step.of_class is None else names.index(step.of_class)
        of_class = None if asked is None else len(held.of_classes({asked}))
        problem = f"{step.samples} were given; client {step.client} holds "
        if asked is not None and of_class is not None and step.samples > of_class:
            problem += f"{of_class} of class {names.shown(asked)}{then}"
            yield problem_at(scenario, (*place, "samples"), problem)
        elif step.samples >= len(held):
            problem += f"{len(held)}{then} and must keep at least one"
            yield problem_at(scenario, (*place, "samples"), problem)


def _data(scenario: Scenario, source: ImageSource, client: int) -> ClientData:
    with errors_at(scenario, "clients"):
        return data_of_client(scenario, source, client)
