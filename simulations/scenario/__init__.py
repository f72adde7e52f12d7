"""Scenario files: found by name or path, changed by ``--set``, checked, with errors that name the place."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from importlib import resources
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from fed_unlearn.data.experiences import class_split
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.simulations.scenario.checks import (
    check_methods,
    check_open_sections,
    check_stream,
    check_timeline,
    forget_steps,
)
from fed_unlearn.simulations.scenario.errors import ScenarioError, first_problem, scenario_error
from fed_unlearn.simulations.scenario.overrides import Table, apply_override
from fed_unlearn.simulations.scenario.sections import ForgetStep, Scenario, TimelineEntry

if TYPE_CHECKING:
    from fed_unlearn.simulations.run.stream import Experiences

__all__ = [
    "Scenario",
    "ScenarioError",
    "built_in_scenarios",
    "check_against_data",
    "check_class_split",
    "load_scenario",
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
        With absolute paths, and an id for every request.

    Raises
    ------
    ScenarioError
        With one line that names file, place, value and what is allowed.
    """
    path, base = _find(name_or_path)
    table = _read(path)
    _make_paths_absolute(table, base)
    for override in overrides:
        try:
            apply_override(table, override)
        except ValueError as error:
            raise ScenarioError(f"{path.name}: --set {override!r}: {error}") from None
    _make_paths_absolute(table, Path.cwd())
    try:
        scenario = Scenario.model_validate(table)
    except ValidationError as error:
        raise ScenarioError(f"{path.name}: {first_problem(error)}") from None
    scenario._source_file = path.name
    check_open_sections(scenario)
    check_stream(scenario)
    scenario = _with_ids(scenario)
    check_timeline(scenario)
    check_methods(scenario)
    return scenario


def check_against_data(scenario: Scenario, class_count: int, experiences: Experiences | None = None) -> None:
    """Check the experiences and classes that a scenario names against those of its data.

    Parameters
    ----------
    scenario : Scenario
        As loaded.
    class_count : int
        Classes of the loaded source are 0 to ``class_count - 1``.
    experiences : Experiences, optional
        Of its stream; all classes are there from the start without it.

    Raises
    ------
    ScenarioError
        If the stream does not have an experience that is trained on, a class does not exist or has not arrived yet, or
        fewer than two would be left at some time.
    """
    if experiences is not None:
        _check_experiences(scenario, len(experiences))
    forgotten: set[int] = set()
    for place, step in forget_steps(scenario):
        arrived = tuple(range(class_count))
        if experiences is not None:
            arrived = experiences.arrived_classes(scenario.arrived_at(int(place[1])))
        for class_id in step.class_ids:
            if class_id not in arrived:
                problem = f"{class_id} is not a class of {_short_name(scenario)!r} (0..{class_count - 1})"
                if class_id < class_count:
                    problem = f"{class_id} has not arrived by then; classes so far are {', '.join(map(str, arrived))}"
                raise scenario_error(scenario, (*place, "classes" if step.class_ is None else "class"), problem)
        forgotten |= set(step.class_ids)
        left = len(set(arrived) - forgotten)
        if step.scope == "class" and left < 2:
            so_far = "" if len(arrived) == class_count else " that have arrived by then"
            problem = f"leaves {left} of {len(arrived)} classes{so_far}; at least 2 must stay"
            raise scenario_error(scenario, place, problem)


def _check_experiences(scenario: Scenario, number: int) -> None:
    for index, entry in enumerate(scenario.timeline):
        if entry.train is not None and entry.train.experience != "all" and entry.train.experience > number:
            problem = f"{entry.train.experience} is not an experience of the stream (1..{number})"
            raise scenario_error(scenario, ("timeline", index, "train", "experience"), problem)


def check_class_split(scenario: Scenario, class_count: int) -> None:
    """Check that the classes of the data can be divided among class-incremental experiences as the scenario asks.

    Raises
    ------
    ScenarioError
        If there are more experiences than classes, or the order is not one of all classes.
    """
    stream = scenario.stream
    if stream is None or stream.benchmark != "class-incremental":
        return
    if stream.number > class_count:
        problem = f"{stream.number} was given; {_short_name(scenario)!r} has {class_count} classes, one each"
        raise scenario_error(scenario, ("stream", "experiences"), problem)
    try:
        class_split(class_count, stream.number, scenario.seed, stream.class_order)
    except InvalidParameterError as error:
        raise scenario_error(scenario, ("stream", "class-order"), str(error)) from None


def _short_name(scenario: Scenario) -> str:
    kind, separator, place = scenario.data.dataset.partition(":")
    return f"{kind}{separator}{Path(place).name}" if Path(place).is_absolute() else scenario.data.dataset


def _find(name_or_path: str) -> tuple[Path, Path]:
    known = built_in_scenarios()
    if name_or_path in known:
        return known[name_or_path], Path.cwd()
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path, path.resolve().parent
    expected = f"expected the path of a TOML file or one of the built-in {', '.join(known)}"
    if path.is_dir():
        raise ScenarioError(f"scenario {name_or_path!r} is a folder; {expected}")
    close = difflib.get_close_matches(name_or_path, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ScenarioError(f"scenario {name_or_path!r} is unknown; {hint}{expected}")


def _read(path: Path) -> Table:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ScenarioError(f"{path.name}: not a readable TOML file: {error}") from None


def _make_paths_absolute(table: Table, base: Path) -> None:
    data, model = table.get("data"), table.get("model")
    if isinstance(data, dict):
        _make_absolute(data, "root", base)
        dataset = data.get("dataset")
        if isinstance(dataset, str):
            kind, _, place = dataset.partition(":")
            is_path = kind == "folder" or place.startswith((".", "/", "~")) or (base / place).exists()
            if kind in ("folder", "hf") and place and is_path:
                data["dataset"] = f"{kind}:{(base / Path(place).expanduser()).resolve()}"
    if isinstance(model, dict):
        _make_absolute(model, "checkpoint", base)


def _make_absolute(section: Table, key: str, base: Path) -> None:
    value = section.get(key)
    if isinstance(value, str) and value:
        section[key] = str((base / Path(value).expanduser()).resolve())


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
