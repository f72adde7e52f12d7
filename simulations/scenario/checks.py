"""What types alone cannot say about a scenario, as far as it can be checked without its data."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from fed_unlearn.errors import InvalidParameterError, problems_of
from fed_unlearn.requests import SCOPES, ScopeKind
from fed_unlearn.simulations.scenario.errors import Place, problem_at
from fed_unlearn.simulations.scenario.gate_checks import problems_with_figures
from fed_unlearn.simulations.scenario.section_types import kebab
from fed_unlearn.simulations.scenario.sections import ForgetStep, OpenSection, Scenario, TimelineEntry, TrainStep
from fed_unlearn.simulations.scenario.strategy_catalogue import strategy_class
from fed_unlearn.text import quoted

_FORGET_KEYS = "class, classes, or client, alone or with samples or sample-ids"
_LEAST_CLIENTS = 2


def forget_steps(scenario: Scenario) -> Iterator[tuple[Place, ForgetStep]]:
    """Every forget request of the timeline with its place in the file, in order."""
    for index, entry in enumerate(scenario.timeline):
        yield from _steps_of(index, entry)


def _steps_of(index: int, entry: TimelineEntry) -> Iterator[tuple[Place, ForgetStep]]:
    several = isinstance(entry.forget, tuple)
    for number, step in enumerate(entry.requests):
        yield ("timeline", index, "forget", *((number,) if several else ())), step


@dataclass
class LeavingClients:
    """Which clients were forgotten so far, as one goes through a timeline."""

    count: int
    forgotten: set[int] = field(default_factory=set)

    def problem_with(self, step: ForgetStep) -> str | None:
        """Why a request cannot be put to its client any more; None where it can, and the client then leaves."""
        if step.client is None:
            return None
        if step.client in self.forgotten:
            return f"{step.client} was forgotten as a whole before; expected a client that is still there"
        if step.scope == "client":
            if self.count - len(self.forgotten) <= _LEAST_CLIENTS:
                left = self.count - len(self.forgotten) - 1
                return f"forgetting {step.client} leaves {left} of {self.count} clients; at least 2 must stay"
            self.forgotten.add(step.client)
        return None


def problems_in(scenario: Scenario) -> Iterator[str]:
    """What is wrong with a scenario whose values are of the right types, a line for each problem."""
    yield from _problems_in_open_sections(scenario)
    yield from _problems_with_backdoor(scenario)
    yield from _problems_in_stream(scenario)
    yield from _problems_in_timeline(scenario)
    yield from _problems_with_methods(scenario)
    yield from problems_with_figures(scenario)


def _problems_with_backdoor(scenario: Scenario) -> Iterator[str]:
    backdoor, count = scenario.clients.backdoor, scenario.clients.count
    if backdoor is not None and backdoor.client >= count:
        problem = f"{backdoor.client} is not one of the {count} clients (0..{count - 1})"
        yield problem_at(scenario, ("clients", "backdoor", "client"), problem)


def _problems_in_stream(scenario: Scenario) -> Iterator[str]:
    """Keys that are nobody's, and an order of classes where experiences do not bring classes."""
    stream = scenario.stream
    if stream is None or not stream.is_built_in:
        return
    for name in stream.parameters:
        key = kebab(name)
        own = [field.alias or "" for field in type(stream).model_fields.values()]
        close = difflib.get_close_matches(key, own, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        yield problem_at(scenario, ("stream", key), f"is not a known key; {hint}allowed are {', '.join(own)}")
    if stream.class_order is not None and stream.benchmark != "class-incremental":
        problem = f"was given with benchmark {quoted(stream.benchmark)}; expected none, or 'class-incremental'"
        yield problem_at(scenario, ("stream", "class-order"), problem)


def _problems_in_timeline(scenario: Scenario) -> Iterator[str]:
    """Entries that are none, and those that cannot be served in their order."""
    for index, entry in enumerate(scenario.timeline):
        if (entry.train is None) == (entry.forget is None):
            given = "neither" if entry.train is None else "both"
            problem = f"{given} of train and forget was given; expected exactly one"
            yield problem_at(scenario, ("timeline", index), problem)
        elif entry.train is not None:
            arrived = scenario.arrived_at(index - 1)
            yield from _problems_in_training(scenario, ("timeline", index, "train"), entry.train, arrived)
    yield from _problem_with_first_request(scenario)
    yield from _problems_with_targets(scenario)
    yield from _problems_with_ids(scenario)


def _problem_with_first_request(scenario: Scenario) -> Iterator[str]:
    """Nothing trained to forget from."""
    place, _ = next(forget_steps(scenario), (None, None))
    if place is None:
        return
    before = scenario.timeline[: int(place[1])]
    if scenario.model.checkpoint is None and all(entry.train is None for entry in before):
        problem = "nothing was trained before it; put a train entry first or give model.checkpoint"
        yield problem_at(scenario, place, problem)
    elif scenario.stream is not None and scenario.arrived_at(int(place[1])) == 0:
        yield problem_at(scenario, place, "no experience of the stream comes before it; put its train entry first")


def _problems_with_targets(scenario: Scenario) -> Iterator[str]:
    clients = LeavingClients(scenario.clients.count)
    for place, step in forget_steps(scenario):
        if (wrong := _problem_with_target(scenario, step)) is not None:
            yield problem_at(scenario, (*place, *wrong[0]), wrong[1])
        elif (gone := clients.problem_with(step)) is not None:
            yield problem_at(scenario, (*place, "client"), gone)


def _problems_with_ids(scenario: Scenario) -> Iterator[str]:
    places: dict[str, Place] = {}
    for place, step in forget_steps(scenario):
        if step.id is None:
            continue
        if step.id in places:
            problem = f"{quoted(step.id)} is the id of {_entry_of(places[step.id])} too; ids must differ"
            yield problem_at(scenario, (*place, "id"), problem)
        places[step.id] = place


def _entry_of(place: Place) -> str:
    return "timeline" + "".join(f"[{part}]" for part in place if isinstance(part, int))


def _problems_in_training(scenario: Scenario, place: Place, step: TrainStep, arrived: int) -> Iterator[str]:
    if step.rounds == 0 and scenario.model.checkpoint is None:
        problem = "0 was given; expected 1 or more, since there is no model.checkpoint"
        yield problem_at(scenario, (*place, "rounds"), problem)
    number, stream = step.experience, scenario.stream
    problem = ""
    if stream is None:
        if number != "all":
            problem = f'{number} was given; expected "all", since there is no [stream]'
    elif number == "all":
        if arrived == 0:
            numbers = f"1..{stream.number}" if stream.is_built_in else "from 1"
            problem = f'"all" was given before any experience had arrived; expected a number ({numbers})'
    elif stream.is_built_in and number > stream.number:
        problem = f"{number} is not an experience of the stream (1..{stream.number})"
    elif number < arrived:
        problem = f'{number} comes after {arrived}; expected experiences in increasing order, or "all" so far'
    if problem:
        yield problem_at(scenario, (*place, "experience"), problem)


def _problem_with_target(scenario: Scenario, step: ForgetStep) -> tuple[Place, str] | None:
    """Why a request names no target that there is, and at which of its keys."""
    by_class = _given({"class": step.class_, "classes": step.classes})
    by_client = _given({"client": step.client, "samples": step.samples, "sample-ids": step.sample_ids})
    if len(by_class) == 2 or (by_class and by_client) or {"samples", "sample-ids"} <= set(by_client):
        return (), f"{' and '.join(by_class + by_client)} were given together; expected {_FORGET_KEYS}"
    if not by_class and not by_client:
        return (), f"names nothing to forget; expected {_FORGET_KEYS}"
    if step.of_class is not None and step.samples is None:
        return ("of-class",), "was given without samples; expected both or neither"
    if by_class:
        return None
    if step.client is None:
        return ("client",), f"is missing; {by_client[0]} are those of one client"
    if step.client >= (count := scenario.clients.count):
        return ("client",), f"{step.client} is not one of the {count} clients (0..{count - 1})"
    return None


def _given(values: Mapping[str, object]) -> list[str]:
    return [key for key, value in values.items() if value is not None]


def _problems_with_methods(scenario: Scenario) -> Iterator[str]:
    """Methods that there are not, that do not take their parameters or do not serve the requests put to them.

    Requests for clients are served by methods of the server; those for classes and samples by methods of the holders,
    or by one of the server that serves their scope.
    """
    from fed_unlearn.strategies.methods_by_name import new_method

    own, trained_by, told = scenario.unlearning.parameters, scenario.training.strategy, set[str]()
    for name, parameters in own.items():
        for problem in problems_of(new_method, name, parameters):
            told.add(problem)
            yield problem_at(scenario, ("unlearning", "parameters", name), problem)
    for scope in SCOPES:
        for number, name in enumerate(scenario.unlearning.escalation.of(scope)):
            for problem in problems_of(_check_serves, scope, name, own.get(name, {}), trained_by):
                if problem not in told:
                    yield problem_at(scenario, ("unlearning", "escalation", scope, number), problem)
    for place, step in forget_steps(scenario):
        if _problem_with_target(scenario, step) is None:
            for problem in problems_of(_check_serves, step.scope, *scenario.method_of(step), trained_by):
                if problem not in told:
                    yield problem_at(scenario, (*place, "method"), problem)


def _check_serves(scope: ScopeKind, name: str, parameters: Mapping[str, object], strategy: str) -> None:
    from fed_unlearn.strategies.methods_by_name import (
        check_suits,
        known_methods,
        method_named,
        new_method,
        served_scopes,
    )

    if scope in served_scopes(method_named(name)):
        new_method(name, parameters)
        check_suits(name, strategy_class(strategy))
        return
    others = {other: cls for other, cls in known_methods().items() if not getattr(cls, "is_control", False)}
    fitting = [other for other, cls in others.items() if scope in served_scopes(cls)]
    problem = f"{quoted(name)} does not serve {scope} requests; {' or '.join(fitting) or 'no method'} does"
    raise InvalidParameterError(problem)


def _problems_in_open_sections(scenario: Scenario) -> Iterator[str]:
    """Keys of ``[clients]`` or ``[model]`` that are all but one of the section's own, such as ``cuont``."""
    sections: dict[str, OpenSection] = {"clients": scenario.clients, "model": scenario.model}
    for name, section in sections.items():
        own = [field.alias or "" for field in type(section).model_fields.values()]
        for key in section.parameters:
            close = difflib.get_close_matches(key, own, n=1, cutoff=0.75)
            if close:
                yield problem_at(scenario, (name, key), f"is not a known key; did you mean {close[0]}?")
