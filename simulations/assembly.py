"""From a scenario to the strategy, the plan and the gate that it describes."""

from __future__ import annotations

import inspect

from flwr.serverapp import strategy as flower_strategies
from flwr.serverapp.strategy import Strategy

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.simulations.sections import GateThresholds, Scenario
from fed_unlearn.strategies import UnlearningPlan


def new_inner_strategy(scenario: Scenario) -> Strategy:
    """The Flower strategy that a scenario names, over all of its clients.

    Raises
    ------
    InvalidParameterError
        If the strategy does not take one of its parameters.
    """
    training = scenario.training
    count = scenario.clients.count
    nodes = {"min_train_nodes": 1, "min_evaluate_nodes": 1, "min_available_nodes": count}
    strategy_class = getattr(flower_strategies, training.strategy)
    defaults = inspect.signature(strategy_class).parameters
    for name, value in training.parameters.items():
        default = defaults[name].default if name in defaults else None
        if isinstance(default, float | int) and not isinstance(value, float | int):
            raise InvalidParameterError(
                f"{scenario.source_file}: training.parameters.{name}: {value!r} was given; expected a number"
            )
    try:
        inner: Strategy = strategy_class(**{**nodes, **training.parameters})
    except TypeError as error:
        raise InvalidParameterError(
            f"{scenario.source_file}: training.parameters: strategy {training.strategy}: {error}"
        ) from None
    return inner


def new_plan(scenario: Scenario) -> UnlearningPlan:
    """How a scenario serves its requests."""
    section = scenario.unlearning
    repair = section.repair.model_dump(by_alias=True, exclude_none=True)
    return UnlearningPlan(
        repair_rounds=section.repair_rounds,
        alternations=section.alternations,
        guard_weight=section.guard_weight,
        guard_margin=section.guard_margin,
        repair_config=repair,
        retention_days=0.0 if section.retention == "none" else float(section.retention),
        retain_limit=scenario.run.audit_samples,
    )


def new_gate(scenario: Scenario) -> Gate:
    """The gate of a scenario."""
    return Gate(
        class_thresholds=_thresholds(scenario.gate.class_),
        sample_thresholds=_thresholds(scenario.gate.sample),
        client_thresholds=_thresholds(scenario.gate.client),
        max_repair_rounds=scenario.unlearning.max_repair_rounds,
        max_attempts=scenario.unlearning.max_attempts,
    )


def _thresholds(section: GateThresholds) -> Thresholds:
    return Thresholds(**section.model_dump())
