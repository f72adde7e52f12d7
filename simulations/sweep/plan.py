"""What a sweep is to run: its scenarios, each with every method, checked against what the folder was begun with."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fed_unlearn.checkpoints import is_temporary, make_private_folder, write_atomically
from fed_unlearn.errors import InvalidParameterError, collected
from fed_unlearn.simulations.run.installed import installed_versions
from fed_unlearn.simulations.run.setting_values import changed_keys, told_changes, values_of
from fed_unlearn.simulations.scenario import Scenario, load_scenario
from fed_unlearn.simulations.scenario.errors import raise_any
from fed_unlearn.simulations.sweep.record import FILE_NAME, OWN, Served, SweepError, SweepRecord
from fed_unlearn.simulations.sweep.substitution import on_one_thread, with_method
from fed_unlearn.text import quoted

LOCK = "sweep.lock"
"""The lock file in the folder of a sweep."""

_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_PACKAGE = "fed-unlearn"

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """A sweep that can be run.

    Attributes
    ----------
    record : SweepRecord
        What is to be run, with the ends of the cells that have ended.
    own : mapping of str to Scenario
        The scenarios as they are written, by name.
    scenarios : mapping of (str, str) to Scenario
        The scenario of each scenario's name and method.
    """

    record: SweepRecord
    own: Mapping[str, Scenario]
    scenarios: Mapping[tuple[str, str], Scenario]

    def write(self, out: Path) -> None:
        """Write the scenarios, as they are and with all methods, and then ``sweep.json``.

        Raises
        ------
        SweepError
            If a scenario that the sweep has written was changed since.
        """
        same_version = _same_version(self.record.versions)
        written = {(name, OWN): scenario for name, scenario in self.own.items()} | dict(self.scenarios)
        for (name, method), scenario in written.items():
            path = scenario_file(out, name, method)
            make_private_folder(path.parent)
            if not path.exists():
                write_atomically(path, scenario.to_toml().encode())
                continue
            before, now = _values(path), values_of(tomllib.loads(scenario.to_toml()))
            if changed := changed_keys(before, now, same_version=same_version):
                raise SweepError(
                    f"{path}: is not what the sweep has written: {told_changes(changed, now, before)}; put it back, or"
                    " begin another sweep in a new folder"
                )
        self.record.save(out)

    def check(self) -> None:
        """Load data and models, and check that all parts fit: each method once, and each seed once.

        Raises
        ------
        FedUnlearnError
            If there is a problem. Nothing was run then.
        """
        from fed_unlearn.simulations.run.driver import prepare

        problems: list[str] = []
        first, *others = self.record.seeds
        for (_, method), scenario in self.scenarios.items():
            for seed in (first, *(others if method == self.record.methods[0] else ())):
                with collected(problems):
                    prepare(scenario.model_copy(update={"seed": seed}), oracle=self.record.oracle)
        raise_any(dict.fromkeys(problems))


def scenario_file(out: Path, scenario: str, method: str) -> Path:
    """The file of a scenario with a method in the folder of a sweep."""
    return out / scenario / f"{method}.toml"


def new_plan(
    names: Sequence[str], overrides: Sequence[str], methods: Sequence[str], seeds: Sequence[int], *, oracle: bool
) -> SweepPlan:
    """The plan of a sweep that begins.

    Parameters
    ----------
    names : sequence of str
        Names or files of scenarios.
    overrides : sequence of str
        Changes to each of them.
    methods : sequence of str
        Names of methods.
    seeds : sequence of int
    oracle : bool

    Raises
    ------
    FedUnlearnError
        If a scenario or a method is not right. The message has a line for each problem.
    """
    own: dict[str, Scenario] = {}
    problems: list[str] = []
    for name in names:
        with collected(problems):
            scenario = load_scenario(name, overrides)
            if scenario.name in own:
                problems.append(f"{name}: is the second scenario named {scenario.name}; expected names that differ")
            own[scenario.name] = on_one_thread(scenario.model_copy(update={"seed": 0}))
    raise_any(problems)
    return plan_of(own, methods, seeds, oracle=oracle)


def plan_of(own: Mapping[str, Scenario], methods: Sequence[str], seeds: Sequence[int], *, oracle: bool) -> SweepPlan:
    """The plan of scenarios by methods by seeds.

    Raises
    ------
    InvalidParameterError
        If a method is unknown, or does not serve a request of each scenario.
    """
    problems: list[str] = []
    scenarios: dict[tuple[str, str], Scenario] = {}
    served: dict[str, dict[str, Served]] = {name: {} for name in own}
    for method in methods:
        if not _FOLDER_NAME.fullmatch(method):
            raise InvalidParameterError(f"--methods {quoted(method)}: cannot name a folder; expected a method's name")
        for name, scenario in own.items():
            with collected(problems):
                scenarios[name, method], served[name][method] = with_method(scenario, method)
    raise_any(dict.fromkeys(problems))
    record = SweepRecord(
        scenarios=tuple(own),
        methods=tuple(methods),
        seeds=tuple(seeds),
        oracle=oracle,
        settings={name: values_of(tomllib.loads(scenario.to_toml())) for name, scenario in own.items()},
        served=served,
        versions=installed_versions(),
    )
    return SweepPlan(record=record, own=own, scenarios=scenarios)


def continued(plan: SweepPlan, known: SweepRecord, out: Path) -> SweepPlan:
    """The plan of a sweep that goes on: what its folder knows, with further scenarios, methods and seeds.

    Parameters
    ----------
    plan : SweepPlan
        The sweep as it is ordered now.
    known : SweepRecord
        What the folder was begun with.
    out : Path
        The folder, for the error.

    Raises
    ------
    SweepError
        If the order differs. The message says in what.
    """
    now, differences = plan.record, list[str]()
    if now.oracle != known.oracle:
        differences.append("it was begun " + ("with --oracle" if known.oracle else "without --oracle"))
    parts: tuple[tuple[str, Sequence[object], Sequence[object]], ...] = (
        ("scenario", known.scenarios, now.scenarios),
        ("method", known.methods, now.methods),
        ("seed", known.seeds, now.seeds),
    )
    for what, before, given in parts:
        if missing := [str(item) for item in before if item not in given]:
            differences.append(f"{what} {', '.join(missing)} is missing")
    for name in known.scenarios:
        if name in now.settings:
            before_values, values = known.settings[name], now.settings[name]
            if changed := changed_keys(before_values, values, same_version=_same_version(known.versions)):
                differences.append(f"{name}: {told_changes(changed, before_values, values)}")
    if differences:
        raise SweepError(
            f"{out}: holds a sweep that differs: {'; '.join(differences)}; put it back, or give another --out"
        )
    record = dataclasses.replace(
        now,
        scenarios=_joined(known.scenarios, now.scenarios),
        methods=_joined(known.methods, now.methods),
        seeds=_joined(known.seeds, now.seeds),
        settings={**now.settings, **known.settings},
        versions=known.versions,
        ends=known.ends,
    )
    return dataclasses.replace(plan, record=record)


def resumed_plan(
    known: SweepRecord, out: Path, methods: Sequence[str], seeds: Sequence[int], *, oracle: bool
) -> SweepPlan:
    """The plan of a sweep that goes on from its folder alone, with further methods and seeds.

    Raises
    ------
    FedUnlearnError
        If a scenario of the folder was changed or is missing, or oracles are asked for that the sweep has not.
    """
    own: dict[str, Scenario] = {}
    for name in known.scenarios:
        path = scenario_file(out, name, OWN)
        if not path.is_file():
            raise SweepError(f"{path}: is missing; give the command again that the sweep was begun with")
        own[name] = load_scenario(str(path))
    plan = plan_of(own, _joined(known.methods, methods), _joined(known.seeds, seeds), oracle=oracle)
    return continued(plan, known, out)


def is_sweep_beginning(folder: Path) -> bool:
    """Whether a folder holds nothing but a sweep that was stopped before its first run."""
    if (folder / FILE_NAME).exists():
        return True
    files = [path for path in folder.rglob("*") if not path.is_dir() and not is_temporary(path)]
    return all(path.suffix == ".toml" or path == folder / LOCK for path in files)


def _joined(first: Sequence[Item], second: Sequence[Item]) -> tuple[Item, ...]:
    return tuple(dict.fromkeys((*first, *second)))


def _values(path: Path) -> dict[str, str]:
    try:
        return values_of(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise SweepError(f"{path}: cannot be read as TOML: {error}") from None


def _same_version(versions: Mapping[str, str]) -> bool:
    return versions.get(_PACKAGE) == installed_versions().get(_PACKAGE)
