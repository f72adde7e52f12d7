"""What types alone cannot say about a scenario, as far as it can be checked without its data."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from fed_unlearn.errors import FedUnlearnError, InvalidParameterError
from fed_unlearn.requests import ScopeKind
from fed_unlearn.simulations.scenario.errors import Place, scenario_error
from fed_unlearn.simulations.scenario.section_types import kebab
from fed_unlearn.simulations.scenario.sections import ForgetStep, OpenSection, Scenario, TimelineEntry, TrainStep

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


def check_stream(scenario: Scenario) -> None:
    """Check the keys of ``[stream]`` against each other.

    Raises
    ------
    ScenarioError
        For an order of classes where experiences do not bring classes, and for keys that are nobody's.
    """
    stream = scenario.stream
    if stream is None or not stream.is_built_in:
        return
    for name in stream.parameters:
        key = kebab(name)
        own = [field.alias or "" for field in type(stream).model_fields.values()]
        close = difflib.get_close_matches(key, own, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise scenario_error(scenario, ("stream", key), f"is not a known key; {hint}allowed are {', '.join(own)}")
    if stream.class_order is not None and stream.benchmark != "class-incremental":
        problem = f"was given with benchmark {stream.benchmark!r}; expected none, or 'class-incremental'"
        raise scenario_error(scenario, ("stream", "class-order"), problem)


def check_timeline(scenario: Scenario) -> None:
    """Check every entry of the timeline, and that there is something trained to forget from.

    Raises
    ------
    ScenarioError
        At the first entry that cannot be.
    """
    ids: dict[str | None, Place] = {}
    clients = LeavingClients(scenario.clients.count)
    trained = scenario.model.checkpoint is not None
    for index, entry in enumerate(scenario.timeline):
        if (entry.train is None) == (entry.forget is None):
            given = "neither" if entry.train is None else "both"
            problem = f"{given} of train and forget was given; expected exactly one"
            raise scenario_error(scenario, ("timeline", index), problem)
        if entry.train is not None:
            trained = True
            _check_training(scenario, ("timeline", index, "train"), entry.train, arrived=scenario.arrived_at(index - 1))
        for place, step in _steps_of(index, entry):
            if not trained or (scenario.stream is not None and scenario.arrived_at(index) == 0):
                problem = "nothing was trained before it; put a train entry first or give model.checkpoint"
                if trained:
                    problem = "no experience of the stream comes before it; put its train entry first"
                raise scenario_error(scenario, place, problem)
            _check_target(scenario, place, step)
            gone = clients.problem_with(step)
            if gone is not None:
                raise scenario_error(scenario, (*place, "client"), gone)
            if step.id in ids:
                problem = f"{step.id!r} is the id of {_entry_of(ids[step.id])} too; ids must differ"
                raise scenario_error(scenario, (*place, "id"), problem)
            ids[step.id] = place


def _entry_of(place: Place) -> str:
    return "timeline" + "".join(f"[{part}]" for part in place if isinstance(part, int))


def _check_training(scenario: Scenario, place: Place, step: TrainStep, arrived: int) -> None:
    if step.rounds == 0 and scenario.model.checkpoint is None:
        problem = "0 was given; expected 1 or more, since there is no model.checkpoint"
        raise scenario_error(scenario, (*place, "rounds"), problem)
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
        raise scenario_error(scenario, (*place, "experience"), problem)


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


def _given(values: Mapping[str, object]) -> list[str]:
    return [key for key, value in values.items() if value is not None]


def check_methods(scenario: Scenario) -> None:
    """Check that every method exists, takes its parameters and serves the requests put to it.

    Requests for clients are served by methods of the server; those for classes and samples by methods of the holders,
    or by one of the server that serves their scope.

    Raises
    ------
    ScenarioError
        At the first that does not.
    """
    for name, parameters in scenario.unlearning.parameters.items():
        _check_parameters(scenario, ("unlearning", "parameters", name), name, parameters)
    scopes: tuple[ScopeKind, ...] = ("class", "sample", "client")
    for scope in scopes:
        for number, name in enumerate(scenario.unlearning.escalation.of(scope)):
            place: Place = ("unlearning", "escalation", scope, number)
            _check_serves(scenario, place, scope, name, scenario.unlearning.parameters.get(name, {}))
    for place, step in forget_steps(scenario):
        _check_serves(scenario, (*place, "method"), step.scope, *scenario.method_of(step))


def _check_parameters(scenario: Scenario, place: Place, name: str, parameters: Mapping[str, object]) -> None:
    from fed_unlearn import methods

    try:
        if _is_of_holders(name):
            methods.create(name, **parameters)
        else:
            from fed_unlearn.strategies import server_methods

            server_methods.create(name, **parameters)
    except FedUnlearnError as error:
        raise scenario_error(scenario, place, str(error)) from None


def _check_serves(
    scenario: Scenario, place: Place, scope: ScopeKind, name: str, parameters: Mapping[str, object]
) -> None:
    try:
        served = _scopes_served(name)
    except FedUnlearnError as error:
        raise scenario_error(scenario, place, str(error)) from None
    if scope in served:
        _check_parameters(scenario, place, name, parameters)
        return
    fitting = [other for other in _known_methods() if scope in _scopes_served(other)]
    problem = f"{name!r} does not serve {scope} requests; {' or '.join(fitting) or 'no method'} does"
    raise scenario_error(scenario, place, problem)


def _is_of_holders(name: str) -> bool:
    from fed_unlearn import methods

    return name in methods.unavailable() or name in _methods_of_holders(controls=True)


def _scopes_served(name: str) -> set[ScopeKind]:
    """Scopes that a method serves in a federation."""
    from fed_unlearn import methods

    if _is_of_holders(name):
        return {scope for scope in methods.method_class(name).scopes if scope != "client"}
    from fed_unlearn.strategies import server_methods

    if name not in server_methods.SERVER_METHODS:
        raise InvalidParameterError(f"method {name!r} is unknown; known are {', '.join(_known_methods(controls=True))}")
    return set(server_methods.method_class(name).scopes)


def _known_methods(*, controls: bool = False) -> list[str]:
    from fed_unlearn.strategies import server_methods

    return [*_methods_of_holders(controls=controls), *server_methods.available()]


def _methods_of_holders(*, controls: bool) -> list[str]:
    """Methods that serve a request at its holders; those for clients alone are a leaving one's part of the server's."""
    from fed_unlearn import methods

    found = methods.available().items()
    return [name for name, cls in found if set(cls.scopes) - {"client"} and (controls or not cls.is_control)]


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
