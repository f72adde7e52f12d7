"""How errors of a scenario are put into words: file, place, value and what is allowed, in one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.simulations.scenario.sections import Scenario
from fed_unlearn.simulations.scenario.timeline_sections import ONE, SEVERAL

Place = tuple[str | int, ...]


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


@contextmanager
def errors_at(scenario: Scenario, *place: str) -> Iterator[None]:
    """The library's errors, raised inside, as errors at a place of a scenario's file; those that name one stay."""
    try:
        yield
    except ScenarioError:
        raise
    except FedUnlearnError as error:
        raise scenario_error(scenario, place, str(error)) from error


def written_place(place: Place) -> str:
    """``timeline[2].forget.class`` for ``("timeline", 2, "forget", "class")``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def first_problem(error: ValidationError) -> str:
    """The most telling of pydantic's errors as ``PLACE: what is wrong``, and how many more there are."""
    problems = error.errors(include_url=False)
    telling = [problem for problem in problems if problem["type"] != "too_short"] or problems
    more = f" (and {len(telling) - 1} more)" if len(telling) > 1 else ""
    place = _place_in_file(telling[0])
    return f"{written_place(place)}: {_worded(telling[0], place)}{more}"


def _place_in_file(problem: ErrorDetails) -> Place:
    return tuple(part for part in problem["loc"] if part not in (ONE, SEVERAL))


def _worded(problem: ErrorDetails, place: Place) -> str:
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
