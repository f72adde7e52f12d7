"""How errors of a scenario are put into words: file, place, value and what is allowed, in one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fed_unlearn.errors import FedUnlearnError, InvalidParameterError
from fed_unlearn.simulations.scenario.sections import Scenario
from fed_unlearn.simulations.scenario.timeline_sections import ONE, SEVERAL
from fed_unlearn.text import printable, quoted

Place = tuple[str | int, ...]


class ScenarioError(InvalidParameterError):
    """A scenario that cannot be run as it is written: a line for each problem."""


def problem_at(scenario: Scenario, place: Place, problem: str) -> str:
    """A problem at a place of a scenario's file, in one line.

    Parameters
    ----------
    scenario : Scenario
        The scenario, whose file's name comes first.
    place : tuple of str and int
        Place in the file, for instance ``("timeline", 2, "forget", "class")``, written as ``timeline[2].forget.class``.
    problem : str
        What is wrong and what is allowed.
    """
    return f"{scenario.source_file}: {written_place(place)}: {problem}"


def scenario_error(scenario: Scenario, place: Place, *problems: str) -> ScenarioError:
    """Error at a place of a scenario's file; see :func:`problem_at`."""
    return ScenarioError(*(problem_at(scenario, place, problem) for problem in problems))


def raise_any(problems: Iterable[str]) -> None:
    """Raise one error with all problems of a scenario, if there are some.

    Raises
    ------
    ScenarioError
        If there is a problem. The message has a line for each.
    """
    if found := list(problems):
        raise ScenarioError(*found)


@contextmanager
def errors_at(scenario: Scenario, *place: str | int) -> Iterator[None]:
    """The library's errors, raised inside, as errors at a place of a scenario's file; those that name one stay."""
    try:
        yield
    except ScenarioError:
        raise
    except FedUnlearnError as error:
        raise scenario_error(scenario, place, *error.problems) from error


def written_place(place: Place) -> str:
    """``timeline[2].forget.class`` for ``("timeline", 2, "forget", "class")``."""
    written = "".join(f"[{part}]" if isinstance(part, int) else f".{printable(part)}" for part in place)
    return printable(written.lstrip("."))


def worded_problems(error: ValidationError) -> list[str]:
    """Each of pydantic's errors as ``PLACE: what is wrong``; a list that is short of its own bad entries is not one."""
    problems = error.errors(include_url=False)
    telling = [problem for problem in problems if problem["type"] != "too_short"] or problems
    return [f"{written_place(place)}: {_worded(item, place)}" for item in telling for place in [_place_in_file(item)]]


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
            return f"{quoted(problem['input'])} was given; expected a table"
        case "too_short":
            return "is empty; expected at least one entry"
        case "string_pattern_mismatch":
            return (
                f"{quoted(problem['input'])} was given; expected letters, digits, dots, dashes and underscores, 1 to 64"
            )
    message = problem["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    if message.startswith(("greater", "less")):
        message = f"a number {message}"
    return f"{quoted(problem['input'])} was given; expected {message}"


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
