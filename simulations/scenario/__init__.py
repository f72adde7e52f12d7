"""Scenario files: found by name or path, changed by ``--set``, checked, with errors that name the place."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Sequence
from importlib import resources
from itertools import count
from pathlib import Path

from pydantic import ValidationError

from fed_unlearn.errors import problems_of
from fed_unlearn.simulations.scenario.checks import forget_steps, problems_in
from fed_unlearn.simulations.scenario.errors import ScenarioError, raise_any, worded_problems
from fed_unlearn.simulations.scenario.overrides import Table, apply_override
from fed_unlearn.simulations.scenario.sections import ForgetStep, Scenario, TimelineEntry

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
        With absolute paths, and an id for every request.

    Raises
    ------
    ScenarioError
        With a line for each problem that names file, place, value and what is allowed.
    """
    path, base = _find(name_or_path)
    table = _read(path)
    _make_paths_absolute(table, base)
    raise_any(_problems_in_overrides(path, table, overrides))
    _make_paths_absolute(table, Path.cwd())
    try:
        scenario = Scenario.model_validate(table)
    except ValidationError as error:
        raise ScenarioError(*(f"{path.name}: {problem}" for problem in worded_problems(error))) from None
    scenario._source_file = path.name
    raise_any(problems_in(scenario))
    return _with_ids(scenario)


def validate(name_or_path: str, overrides: Sequence[str] = ()) -> list[str]:
    """Everything that is wrong with a scenario, as far as it can be said without its data.

    Parameters
    ----------
    name_or_path, overrides
        As :func:`load_scenario` takes them.

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
            yield f"{path.name}: --set {override!r}: {error}"


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
