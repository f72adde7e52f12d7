"""Scenario files: found by name or path, changed by ``--set``, checked, with errors that name the place."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from importlib import resources
from itertools import count
from pathlib import Path

from pydantic import ValidationError

from fed_unlearn.errors import InvalidParameterError, problems_of
from fed_unlearn.simulations.scenario.checks import forget_steps, problems_in
from fed_unlearn.simulations.scenario.errors import ScenarioError, raise_any, worded_problems
from fed_unlearn.simulations.scenario.overrides import apply_override
from fed_unlearn.simulations.scenario.reading import Table, read_table
from fed_unlearn.simulations.scenario.sections import ForgetStep, Scenario, TimelineEntry
from fed_unlearn.text import printable, quoted

__all__ = [
    "Scenario",
    "ScenarioError",
    "built_in_scenarios",
    "load_scenario",
    "validate",
]


def built_in_scenarios() -> dict[str, Path]:
    """Paths of the scenarios that come with the library, by name."""
    folder = Path(str(resources.files("fed_unlearn.simulations"))) / "scenarios"
    return {path.stem: path for path in sorted(folder.glob("*.toml"), key=lambda path: path.stem)}


def load_scenario(name_or_path: str, overrides: Sequence[str] = ()) -> Scenario:
    """Read a scenario, apply overrides to it and check all that can be checked without its data.

    Parameters
    ----------
    name_or_path : str
        Name of a built-in scenario, or path of a TOML file. Relative paths inside a file are relative to
        its folder, those of a built-in scenario and of overrides to the current folder.
    overrides : sequence of str
        ``KEY=VALUE``, applied in order; keys such as ``clients.count`` or ``timeline.2.forget.class``,
        values in TOML syntax, anything else is taken as a string.

    Returns
    -------
    Scenario
        The scenario, with absolute paths and an id for every request.

    Raises
    ------
    ScenarioError
        If there is a problem. The message has a line for each, with file, place, value and what is allowed.
    """
    path, base = _find(name_or_path)
    table = _read(path)
    raise_any(_problems_with_paths(path, table, base))
    raise_any(_problems_in_overrides(path, table, overrides))
    raise_any(_problems_with_paths(path, table, Path.cwd()))
    try:
        scenario = Scenario.model_validate(table)
    except ValidationError as error:
        raise ScenarioError(*(f"{printable(path.name)}: {problem}" for problem in worded_problems(error))) from None
    scenario._source_file = printable(path.name)
    raise_any(problems_in(scenario))
    return _with_ids(scenario)


def validate(name_or_path: str, overrides: Sequence[str] = ()) -> list[str]:
    """Everything that is wrong with a scenario, as far as it can be said without its data.

    Parameters
    ----------
    name_or_path, overrides
        The scenario and what overrides its values, as :func:`load_scenario` takes them.

    Returns
    -------
    list of str
        A line for each problem; empty where :func:`load_scenario` loads it.
    """
    return problems_of(load_scenario, name_or_path, overrides)


def _problems_in_overrides(path: Path, table: Table, overrides: Sequence[str]) -> Iterator[str]:
    """Apply overrides to a table, in place; those that cannot be applied are problems."""
    for override in overrides:
        try:
            apply_override(table, override)
        except ValueError as error:
            yield f"{printable(path.name)}: --set {quoted(override)}: {error}"


def _find(name_or_path: str) -> tuple[Path, Path]:
    known = built_in_scenarios()
    if name_or_path in known:
        return known[name_or_path], Path.cwd()
    expected = f"expected the path of a TOML file or one of the built-in {', '.join(known)}"
    try:
        path = Path(name_or_path).expanduser()
        if path.is_file():
            return path, path.resolve().parent
        is_folder = path.is_dir()
    except (OSError, ValueError, RuntimeError) as error:
        raise ScenarioError(f"scenario {quoted(name_or_path)} is no path ({_reason(error)}); {expected}") from None
    if is_folder:
        raise ScenarioError(f"scenario {quoted(name_or_path)} is a folder; {expected}")
    close = difflib.get_close_matches(name_or_path, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ScenarioError(f"scenario {quoted(name_or_path)} is unknown; {hint}{expected}")


def _read(path: Path) -> Table:
    try:
        return read_table(path)
    except InvalidParameterError as error:
        raise ScenarioError(f"{printable(path.name)}: {error}") from None


def _problems_with_paths(path: Path, table: Table, base: Path) -> Iterator[str]:
    """Make the paths of a table absolute, in place; what cannot be a path is a problem."""
    for name, key in (("data", "root"), ("data", "dataset"), ("model", "checkpoint")):
        section = table.get(name)
        value = section.get(key) if isinstance(section, dict) else None
        if not isinstance(section, dict) or not isinstance(value, str) or not value:
            continue
        try:
            section[key] = _absolute_source(value, base) if key == "dataset" else _absolute(value, base)
        except (OSError, ValueError, RuntimeError) as error:
            yield f"{printable(path.name)}: {name}.{key}: {quoted(value)} is no path ({_reason(error)})"


def _absolute_source(dataset: str, base: Path) -> str:
    kind, _, place = dataset.partition(":")
    if kind not in ("folder", "hf") or not place:
        return dataset
    is_path = kind == "folder" or place.startswith((".", "/", "~")) or (base / place).exists()
    return f"{kind}:{_absolute(place, base)}" if is_path else dataset


def _absolute(place: str, base: Path) -> str:
    path = (base / Path(place).expanduser()).resolve()
    path.exists()  # raises if the name is too long
    return str(path)


def _reason(error: Exception) -> str:
    """Why a text is no path: too long, a null byte, the home of nobody."""
    return error.strerror if isinstance(error, OSError) and error.strerror else printable(str(error))


def _with_ids(scenario: Scenario) -> Scenario:
    taken = {step.id for _, step in forget_steps(scenario)}
    free = (name for number in count(1) if (name := f"r{number}") not in taken)

    def named(step: ForgetStep) -> ForgetStep:
        return step if step.id is not None else step.model_copy(update={"id": next(free)})

    timeline: list[TimelineEntry] = []
    for entry in scenario.timeline:
        requests = tuple(named(step) for step in entry.requests)
        timeline.append(entry.with_requests(requests) if requests else entry)
    return scenario.model_copy(update={"timeline": tuple(timeline)})
