"""What types alone cannot say about a scenario, and how its errors are put into words."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.simulations.sections import ForgetStep, OpenSection, Scenario, TimelineEntry

Place = tuple[str | int, ...]

_FORGET_KEYS = "class, classes, or client with samples or sample-ids"


class ScenarioError(FedUnlearnError, ValueError):
    """A scenario that cannot be run as it is written: file, place, value and what is allowed, in one line."""


def scenario_error(scenario: Scenario, place: Place, problem: str) -> ScenarioError:
    """Error at a place of a scenario's file.

    Parameters
    ----------
    scenario : Scenario
        Its file's name comes first.
    place : tuple of str and int
        For instance ``("timeline", 2, "forget", "class")``, written as ``timeline[2].forget.class``.
    problem : str
        What is wrong and what is allowed.
    """
    return ScenarioError(f"{scenario.source_file}: {written_place(place)}: {problem}")


def written_place(place: Place) -> str:
    """``timeline[2].forget.class`` for ``("timeline", 2, "forget", "class")``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def first_problem(error: ValidationError) -> str:
    """The most telling of pydantic's errors as ``PLACE: what is wrong``, and how many more there are."""
    problems = error.errors(include_url=False)
    telling = [problem for problem in problems if problem["type"] != "too_short"] or problems
    more = f" (and {len(telling) - 1} more)" if len(telling) > 1 else ""
    return f"{written_place(telling[0]['loc'])}: {_worded(telling[0])}{more}"


def _worded(problem: ErrorDetails) -> str:
    place = problem["loc"]
    match problem["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            allowed = _allowed_keys(place[:-1])
            close = difflib.get_close_matches(str(place[-1]), allowed, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            return f"is not a known key; {hint}allowed are {', '.join(allowed)}"
        case "model_type":
            return f"{problem['input']!r} was given; expected a table"
        case "too_short":
            return "is empty; expected at least one entry"
        case "string_pattern_mismatch":
            return f"{problem['input']!r} was given; expected letters, digits, dots, dashes and underscores, 1 to 64"
    message = problem["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    if message.startswith(("greater", "less")):
        message = f"a number {message}"
    return f"{problem['input']!r} was given; expected {message}"


def _allowed_keys(place: Place) -> list[str]:
    model: type[BaseModel] = Scenario
    for part in place:
        if isinstance(part, str):
            fields = {field.alias: field for field in model.model_fields.values()}
            found = _model_in(fields[part].annotation) if part in fields else None
            if found is None:
                return []
            model = found
    return [field.alias or "" for field in model.model_fields.values()]


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)


def forget_steps(scenario: Scenario) -> list[tuple[int, ForgetStep]]:
    """Every forget request of the timeline with its index there."""
    return [(index, entry.forget) for index, entry in enumerate(scenario.timeline) if entry.forget is not None]


def check_timeline(scenario: Scenario) -> None:
    """Check every entry of the timeline, and that there is something trained to forget from.

    Raises
    ------
    ScenarioError
        At the first entry that cannot be.
    """
    ids: dict[str | None, int] = {}
    trained = scenario.model.checkpoint is not None
    for index, entry in enumerate(scenario.timeline):
        place: Place = ("timeline", index)
        if (entry.train is None) == (entry.forget is None):
            given = "neither" if entry.train is None else "both"
            raise scenario_error(scenario, place, f"{given} of train and forget was given; expected exactly one")
        trained = trained or entry.train is not None
        _check_entry(scenario, place, entry, trained)
        if entry.forget is not None:
            if entry.forget.id in ids:
                problem = f"{entry.forget.id!r} is the id of timeline[{ids[entry.forget.id]}] too; ids must differ"
                raise scenario_error(scenario, (*place, "forget", "id"), problem)
            ids[entry.forget.id] = index


def _check_entry(scenario: Scenario, place: Place, entry: TimelineEntry, trained: bool) -> None:
    if entry.train is not None and entry.train.rounds == 0 and scenario.model.checkpoint is None:
        problem = "0 was given; expected 1 or more, since there is no model.checkpoint"
        raise scenario_error(scenario, (*place, "train", "rounds"), problem)
    if entry.forget is None:
        return
    if not trained:
        problem = "nothing was trained before it; put a train entry first or give model.checkpoint"
        raise scenario_error(scenario, (*place, "forget"), problem)
    _check_target(scenario, (*place, "forget"), entry.forget)


def _check_target(scenario: Scenario, place: Place, step: ForgetStep) -> None:
    by_class = _given({"class": step.class_, "classes": step.classes})
    by_client = _given({"client": step.client, "samples": step.samples, "sample-ids": step.sample_ids})
    if len(by_class) == 2 or (by_class and by_client) or {"samples", "sample-ids"} <= set(by_client):
        named = " and ".join(by_class + by_client)
        raise scenario_error(scenario, place, f"{named} were given together; expected {_FORGET_KEYS}")
    if not by_class and not by_client:
        raise scenario_error(scenario, place, f"names nothing to forget; expected {_FORGET_KEYS}")
    if step.of_class is not None and step.samples is None:
        raise scenario_error(scenario, (*place, "of-class"), "was given without samples; expected both or neither")
    if by_class:
        return
    count = scenario.clients.count
    if step.client is None:
        raise scenario_error(scenario, (*place, "client"), f"is missing; {by_client[0]} are those of one client")
    if step.client >= count:
        problem = f"{step.client} is not one of the {count} clients (0..{count - 1})"
        raise scenario_error(scenario, (*place, "client"), problem)
    if step.scope == "client":
        problem = f"{step.client} alone: forgetting a whole client is not supported yet; add samples or sample-ids"
        raise scenario_error(scenario, (*place, "client"), problem)


def _given(values: Mapping[str, object]) -> list[str]:
    return [key for key, value in values.items() if value is not None]


def check_methods(scenario: Scenario) -> None:
    """Check that every method exists, takes its parameters and serves the requests put to it.

    Raises
    ------
    ScenarioError
        At the first that does not.
    """
    from fed_unlearn.methods import available, create, method_class

    for name, parameters in scenario.unlearning.parameters.items():
        try:
            create(name, **parameters)
        except FedUnlearnError as error:
            raise scenario_error(scenario, ("unlearning", "parameters", name), str(error)) from None
    for index, step in forget_steps(scenario):
        place: Place = ("timeline", index, "forget")
        name, merged = scenario.method_of(step)
        try:
            served = method_class(name).scopes
            if step.scope in served:
                create(name, **merged)
        except FedUnlearnError as error:
            raise scenario_error(scenario, (*place, "method"), str(error)) from None
        if step.scope not in served:
            fitting = [other for other, cls in available().items() if step.scope in cls.scopes and not cls.is_control]
            problem = f"{name!r} does not serve {step.scope} requests; {' or '.join(fitting) or 'no method'} does"
            raise scenario_error(scenario, (*place, "method"), problem)


def check_open_sections(scenario: Scenario) -> None:
    """Check that a key of ``[clients]`` or ``[model]`` is not a misspelt key of the section itself.

    Raises
    ------
    ScenarioError
        For a key that is all but one of the section's own, such as ``cuont``.
    """
    sections: dict[str, OpenSection] = {"clients": scenario.clients, "model": scenario.model}
    for name, section in sections.items():
        own = [field.alias or "" for field in type(section).model_fields.values()]
        for key in section.parameters:
            close = difflib.get_close_matches(key, own, n=1, cutoff=0.75)
            if close:
                raise scenario_error(scenario, (name, key), f"is not a known key; did you mean {close[0]}?")
