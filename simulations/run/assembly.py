"""Makes the strategy, the plan and the gate that a scenario describes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import cast

from flwr.serverapp import strategy as flower_strategies
from flwr.serverapp.strategy import Strategy

from fed_unlearn.audits.validation import ServerValidation
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.gate import Gate
from fed_unlearn.plan import MEBIBYTE, History, Repair
from fed_unlearn.requests import SCOPES, ParameterValue
from fed_unlearn.simulations.scenario.errors import errors_at, problem_at, raise_any, scenario_error
from fed_unlearn.simulations.scenario.sections import Scenario
from fed_unlearn.simulations.scenario.strategy_catalogue import PAPERS, strategy_class
from fed_unlearn.simulations.task import new_model, server_samples_of, source_of
from fed_unlearn.strategies import Holds, OwnerLimits, RequestBound, UnlearningPlan
from fed_unlearn.strategies.inner.kinds import PRIVACY_WRAPPERS, check_supported, why_class_refused
from fed_unlearn.strategies.methods_by_name import needs_history
from fed_unlearn.text import quoted


def new_inner_strategy(scenario: Scenario) -> Strategy:
    """Make the Flower strategy that a scenario names. It needs all of the scenario's clients.

    Raises
    ------
    InvalidParameterError
        If the strategy cannot be wrapped, cannot be used with the clients of scenarios, or does not take a parameter.
    """
    training = scenario.training
    parameters = dict(training.parameters)
    cls = _strategy_class(scenario, "training.strategy", training.strategy)
    if not issubclass(cls, PRIVACY_WRAPPERS):
        return _new_strategy(scenario, cls, {**_nodes_of(scenario), **parameters})
    wrapped_class = _strategy_class(scenario, "training.parameters.inner", str(parameters.pop("inner", "FedAvg")))
    own = set(inspect.signature(cls).parameters) - {"strategy", "accountant"}
    of_wrapped = {name: value for name, value in parameters.items() if name not in own}
    wrapped = _new_strategy(scenario, wrapped_class, {**_nodes_of(scenario), **of_wrapped})
    of_wrapper = {name: value for name, value in parameters.items() if name in own}
    return _new_strategy(scenario, cls, {"num_sampled_clients": scenario.clients.count, **of_wrapper}, strategy=wrapped)


def _nodes_of(scenario: Scenario) -> dict[str, object]:
    return {"min_train_nodes": 1, "min_evaluate_nodes": 1, "min_available_nodes": scenario.clients.count}


def _strategy_class(scenario: Scenario, place: str, name: str) -> type[Strategy]:
    """The class of a strategy, if it can be used with the clients of scenarios."""
    if name not in PAPERS:
        raise InvalidParameterError(
            f"{scenario.source_file}: {place}: {quoted(name)} was given; expected a strategy of Flower:"
            f" {', '.join(PAPERS)}"
        )
    cls = strategy_class(name)
    reason = why_class_refused(cls)
    if reason is None and issubclass(cls, flower_strategies.QFedAvg):
        reason = "it needs the training loss of every client, which the clients of scenarios do not report"
    if reason is not None:
        raise InvalidParameterError(f"{scenario.source_file}: {place}: {name} cannot be used: {reason}")
    return cls


def _new_strategy(
    scenario: Scenario, cls: type[Strategy], parameters: Mapping[str, object], **wrapped: Strategy
) -> Strategy:
    expected = inspect.signature(cls).parameters
    raise_any(
        problem_at(scenario, ("training", "parameters", name), f"{quoted(value)} was given; expected a number")
        for name, value in parameters.items()
        if name in expected and expected[name].annotation in (int, float) and not _is_number(value)
    )
    try:
        inner = cls(**wrapped, **parameters)
        check_supported(inner)
    except InvalidParameterError as error:
        raise scenario_error(scenario, ("training",), *error.problems) from None
    except (TypeError, ValueError) as error:
        raise scenario_error(scenario, ("training", "parameters"), f"strategy {cls.__name__}: {error}") from None
    return inner


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def new_plan(scenario: Scenario) -> UnlearningPlan:
    """How a scenario serves its requests."""
    section = scenario.unlearning
    return UnlearningPlan(
        class_method=section.method,
        sample_method=section.sample_method,
        client_method=section.client_method,
        parameters=cast(Mapping[str, Mapping[str, ParameterValue]], section.parameters),
        escalation={scope: section.escalation.of(scope) for scope in SCOPES},
        repair=Repair(
            rounds=section.repair_rounds,
            alternations=section.alternations,
            config=section.repair.model_dump(by_alias=True, exclude_none=True),
            guard_weight=section.guard_weight,
            guard_margin=section.guard_margin,
        ),
        share_rounds=section.share_rounds,
        depth=section.depth,
        request_bound=RequestBound(max_request_norm=section.max_request_norm, client_budget=section.client_budget),
        max_client_share=section.max_client_share,
        holds=Holds(data=section.hold.data, of_class=section.hold.class_, of_client=section.hold.client),
        owners=OwnerLimits(open=section.owners.open, per_day=section.owners.per_day),
        require_measured=section.require_measured,
        reopen_relapsed=section.reopen_relapsed,
        history=History(
            every=section.history.every if _needs_history(scenario) else 0,
            max_bytes=section.history.max_megabytes * MEBIBYTE,
        ),
        retention_days=0.0 if section.retention == "none" else float(section.retention),
        retain_limit=scenario.run.audit_samples,
        test_limit=scenario.run.audit_test_samples,
        relapse_limit=scenario.run.audit_earlier_samples,
        unlearned_limit=scenario.run.audit_unlearned_samples,
    )


def _needs_history(scenario: Scenario) -> bool:
    """Whether a request of the timeline may be served by a method that replays stored rounds."""
    return any(
        needs_history(name)
        for _, steps in scenario.forget_entries()
        for step in steps
        for name in (scenario.method_of(step)[0], *scenario.unlearning.escalation.of(step.scope))
    )


def new_gate(scenario: Scenario) -> Gate:
    """The gate of a scenario; it judges by the server's own samples where the scenario gives it some."""
    section = scenario.gate
    return Gate(
        class_thresholds=section.class_.thresholds(),
        sample_thresholds=section.sample.thresholds(),
        client_thresholds=section.client.thresholds(),
        indistinguishable_thresholds=section.indistinguishable.thresholds(),
        max_repair_rounds=scenario.unlearning.max_repair_rounds,
        max_attempts=scenario.unlearning.max_attempts,
        max_training_drop=section.max_training_drop,
        validation=_server_validation(scenario) if scenario.data.server_fraction else None,
    )


def _server_validation(scenario: Scenario) -> ServerValidation:
    source = source_of(scenario.data)
    with errors_at(scenario, "data", "server-fraction"):
        return ServerValidation(server_samples_of(scenario.data), new_model(scenario, source))
