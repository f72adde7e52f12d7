"""What is wrong with bounds that a scenario puts on figures of audits."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from math import isfinite
from typing import get_args

from fed_unlearn.gate.bounds import Bound, Reference
from fed_unlearn.gate.figure_names import NO_ORACLE_YET, FigureSource, figure_sources, known_names, problem_with
from fed_unlearn.requests import ScopeKind
from fed_unlearn.simulations.scenario.errors import problem_at
from fed_unlearn.simulations.scenario.sections import Scenario
from fed_unlearn.simulations.scenario.unlearning_sections import ThresholdsSection
from fed_unlearn.text import quoted


def problems_with_figures(scenario: Scenario) -> Iterator[str]:
    """A line for each key of a table of the gate that is none, and each bound that cannot be."""
    gate = scenario.gate
    tables: dict[str, tuple[ScopeKind, ThresholdsSection]] = {
        "class": ("class", gate.class_),
        "sample": ("sample", gate.sample),
        "client": ("client", gate.client),
        "indistinguishable": ("sample", gate.indistinguishable),
    }
    if not any(section.model_extra for _, section in tables.values()):
        return
    sources = figure_sources()
    for name, (scope, section) in tables.items():
        for key, value in (section.model_extra or {}).items():
            problem = _problem_with(key, value, scope, section, sources)
            if problem is not None:
                yield problem_at(scenario, ("gate", name, key), problem)


def _problem_with(
    key: str, value: object, scope: ScopeKind, section: ThresholdsSection, sources: dict[str, FigureSource]
) -> str | None:
    end, dash, rest = key.partition("-")
    name = rest.replace("-", "_")
    if key == "beside":
        return NO_ORACLE_YET if value == "oracle" else f"{quoted(value)} was given; {NO_ORACLE_YET}"
    if not dash or end not in ("min", "max") or (name not in sources and _is_near_own(key, section)):
        return _not_a_key(key, scope, section, sources)
    if value in ("oracle", {"beside": "oracle"}):
        return NO_ORACLE_YET
    if value == "none":
        bound = Bound(maximum=0.5)
    elif value == "reset-rows" and end == "max":
        bound = Bound(beside="reset-rows")
    elif isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        others = [quoted(reference) for reference in get_args(Reference) if reference != "oracle" and end == "max"]
        return f"{quoted(value)} was given; expected {' or '.join(['a number', *others, quoted('none')])}"
    else:
        bound = Bound(maximum=float(value)) if end == "max" else Bound(minimum=float(value))
    problem = problem_with(name, bound, scope, sources)
    if problem is not None:
        return f"{name} {problem}"
    return _with_other_end(name, section) if end == "min" else None


def _with_other_end(name: str, section: ThresholdsSection) -> str | None:
    written = name.replace("_", "-")
    lowest, highest = ((section.model_extra or {}).get(f"{end}-{written}") for end in ("min", "max"))
    if not isinstance(lowest, int | float) or highest is None or highest == "none":
        return None
    if isinstance(highest, str):
        return f"was given with max-{written} = {quoted(highest)}; expected one of both"
    if isinstance(highest, int | float) and lowest > highest:
        return f"{lowest:g} is over max-{written} = {highest:g}; expected at most as much"
    return None


def _is_near_own(key: str, section: ThresholdsSection) -> bool:
    return bool(difflib.get_close_matches(key, _own_keys(section), n=1, cutoff=0.8))


def _own_keys(section: ThresholdsSection) -> list[str]:
    return [field.alias or "" for field in type(section).model_fields.values()]


def _not_a_key(key: str, scope: ScopeKind, section: ThresholdsSection, sources: dict[str, FigureSource]) -> str:
    own = _own_keys(section)
    close = difflib.get_close_matches(key, own, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    figures = ", ".join(name.replace("_", "-") for name in known_names(scope, sources))
    return (
        f"is not a known key; {hint}allowed are {', '.join(own)}, and max- or min- before the name of a figure:"
        f" {figures or 'there is none'}"
    )
