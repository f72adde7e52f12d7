"""A scenario with another method in place of its own, wherever that method serves."""

from __future__ import annotations

from fed_unlearn.errors import InvalidParameterError, problems_of
from fed_unlearn.simulations.scenario.checks import problems_in
from fed_unlearn.simulations.scenario.errors import raise_any
from fed_unlearn.simulations.scenario.sections import ForgetStep, Scenario
from fed_unlearn.simulations.sweep.record import OWN, KeptRequest, Served
from fed_unlearn.text import quoted

_DEFAULTS = {"class": "method", "sample": "sample_method", "client": "client_method"}
_THREADS = 1


def with_method(scenario: Scenario, method: str) -> tuple[Scenario, Served]:
    """Put a method in place of those of all requests that it serves.

    A request is served if the method serves its scope and, where the request has a goal, takes that goal. It loses its
    own method and the parameters of that; those of ``[unlearning.parameters.METHOD]`` hold. Other requests stay as they
    are. Where ``depth = "deep"`` would put a reset in place of the method, depth becomes ``"shallow"``.

    Parameters
    ----------
    scenario : Scenario
        The scenario as it is written, with an id for every request.
    method : str
        Name of a method, or ``own``, which changes nothing.

    Raises
    ------
    InvalidParameterError
        If there is no such method, it serves no request of the scenario, or the scenario is not right with it.
    """
    steps = [step for _, group in scenario.forget_entries() for step in group]
    if method == OWN:
        return scenario, Served(scopes=_scopes(steps))
    served = [step for step in steps if _serves(method, step, scenario)]
    if not served:
        kinds = ", ".join(_scopes(steps)) or "no"
        raise InvalidParameterError(
            f"{scenario.source_file}: --methods {quoted(method)}: serves none of its requests ({kinds} requests)"
        )
    ids = {step.id for step in served}
    kept = [
        KeptRequest(id=str(step.id), scope=step.scope, method=scenario.method_of(step)[0])
        for step in steps
        if step.id not in ids
    ]
    changed = _substituted(scenario, method, served, kept)
    raise_any(problems_in(changed))
    return changed, Served(scopes=_scopes(served), kept=tuple(kept))


def on_one_thread(scenario: Scenario) -> Scenario:
    """The scenario with one torch thread a client, unless it says how many: cells run side by side."""
    if scenario.run.threads is not None:
        return scenario
    return scenario.model_copy(update={"run": scenario.run.model_copy(update={"threads": _THREADS})})


def _serves(method: str, step: ForgetStep, scenario: Scenario) -> bool:
    from fed_unlearn.strategies.methods_by_name import method_named, new_method, served_scopes

    if step.scope not in served_scopes(method_named(method)):
        return False
    parameters = scenario.unlearning.parameters.get(method, {})
    return step.goal is None or not problems_of(new_method, method, {**parameters, "goal": step.goal})


def _substituted(scenario: Scenario, method: str, served: list[ForgetStep], kept: list[KeptRequest]) -> Scenario:
    """The scenario with the method as default of the scopes that it serves; requests that keep theirs name it."""
    from fed_unlearn.strategies.methods_by_name import is_server_method

    ids, own = {step.id for step in served}, {request.id: request.method for request in kept}

    def changed(step: ForgetStep) -> ForgetStep:
        if step.id in ids:
            is_same = step.method in (None, method) and scenario.method_of(step)[0] == method
            return step.model_copy(update={"method": None, **({} if is_same else {"parameters": {}})})
        return step.model_copy(update={"method": own[str(step.id)]})

    timeline = tuple(
        entry.with_requests(tuple(changed(step) for step in entry.requests)) if entry.requests else entry
        for entry in scenario.timeline
    )
    scopes = _scopes(served)
    update: dict[str, object] = {_DEFAULTS[scope]: method for scope in scopes}
    if "class" in scopes and not is_server_method(method):
        update["depth"] = "shallow"
    unlearning = scenario.unlearning.model_copy(update=update)
    return scenario.model_copy(update={"timeline": timeline, "unlearning": unlearning})


def _scopes(steps: list[ForgetStep]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(step.scope for step in steps))
