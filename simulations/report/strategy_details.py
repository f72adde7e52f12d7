"""What ``fed-unlearn strategies`` prints about a strategy, read from Flower's class."""

from __future__ import annotations

import inspect

from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import FedAvg, Strategy
from flwr.serverapp.strategy.fedopt import FedOpt

from fed_unlearn.simulations.scenario.strategy_catalogue import strategy_class
from fed_unlearn.strategies.inner.frozen_head import FrozenHead
from fed_unlearn.strategies.inner.kinds import PRIVACY_WRAPPERS, ROBUST_AGGREGATORS, why_class_refused

_NOT_IN_FILES = {"strategy", "accountant", "selection_rule"}
"""Parameters whose values are Python objects, which a scenario file cannot hold."""


def strategy_facts(name: str) -> dict[str, str]:
    """The parameters of a strategy and how its unlearning rounds are aggregated, or the reason why it is refused.

    Parameters
    ----------
    name : str
        The name of a strategy in ``flwr.serverapp.strategy``, or FrozenHead.
    """
    cls = strategy_class(name)
    refused = why_class_refused(cls)
    if refused is not None:
        return {"refused": refused}
    return {"parameters": ", ".join(_parameters(cls)), "unlearning": _treatment(cls)}


def _parameters(cls: type[Strategy]) -> list[str]:
    """The strategy's own parameters in kebab case, with defaults. The scenario sets those of FedAvg's sampling."""
    common = set(inspect.signature(FedAvg).parameters) | _NOT_IN_FILES
    own = {key: value for key, value in inspect.signature(cls).parameters.items() if key not in common}
    listed = [
        key.replace("_", "-") + ("" if value.default in (inspect.Parameter.empty, None) else f" = {value.default}")
        for key, value in own.items()
    ]
    return [*listed, "inner = FedAvg"] if issubclass(cls, PRIVACY_WRAPPERS) else listed


def _treatment(cls: type[Strategy]) -> str:
    if issubclass(cls, PRIVACY_WRAPPERS):
        return (
            "unlearn and repair rounds are clipped and noised as training is, and counted; every client counts alike,"
            " and the noise is made for those that answered"
        )
    if issubclass(cls, FrozenHead):
        return "trains in one round from sums over clients' samples; requests are served by frozen-head, exactly"
    if issubclass(cls, flower.MultiKrum):
        return "unlearn and repair rounds go through it and need 2 num-malicious-nodes + 3 answers"
    if issubclass(cls, flower.Bulyan):
        return "unlearn and repair rounds go through it and need 4 num-malicious-nodes + 3 answers"
    if issubclass(cls, ROBUST_AGGREGATORS):
        return "unlearn and repair rounds go through it and need 3 answers"
    if issubclass(cls, FedOpt | flower.FedAvgM):
        return "unlearn and repair rounds are averaged; its momenta, which carry the data, are reset on commit"
    if issubclass(cls, flower.QFedAvg):
        return (
            "unlearn and repair rounds are averaged; from Python only, since the clients of scenarios report no"
            " training loss"
        )
    return "unlearn and repair rounds are averaged"
