"""Which strategies of Flower can be wrapped, and what kind each of them is."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final

from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import FedAvg, Strategy

from fed_unlearn.errors import InvalidParameterError

logger = logging.getLogger("fed_unlearn.strategies")

PrivacyWrapper = (
    flower.DifferentialPrivacyServerSideFixedClipping | flower.DifferentialPrivacyServerSideAdaptiveClipping
)
"""Wrappers that clip and noise on the server, where it can be seen that they do."""

PRIVACY_WRAPPERS: Final = (
    flower.DifferentialPrivacyServerSideFixedClipping,
    flower.DifferentialPrivacyServerSideAdaptiveClipping,
)
ROBUST_AGGREGATORS: Final = (flower.FedMedian, flower.FedTrimmedAvg, flower.MultiKrum, flower.Bulyan)
"""Aggregators that do not trust single clients; Krum is a MultiKrum."""

_TREES = (flower.FedXgbBagging, flower.FedXgbCyclic)
_CLIENT_SIDE_PRIVACY = (
    flower.DifferentialPrivacyClientSideFixedClipping,
    flower.DifferentialPrivacyClientSideAdaptiveClipping,
)
_OPTS_IN = "aggregates_repair"


def check_kind(inner: Strategy) -> None:
    """Refuse what :func:`~fed_unlearn.strategies.inner.state.check_supported` refuses."""
    if not isinstance(inner, Strategy):
        given = inner.__name__ if isinstance(inner, type) else type(inner).__name__
        raise InvalidParameterError(f"{given} was given as the strategy; expected an instance of a Flower Strategy")
    for layer in layers(inner):
        reason = _why_refused(layer)
        if reason is not None:
            raise InvalidParameterError(f"strategy {type(layer).__name__} cannot be wrapped: {reason}")
    for layer in layers(inner):
        _say_how_treated(layer)


def layers(inner: Strategy) -> Iterator[Strategy]:
    """A strategy, and those that it wraps, outermost first."""
    yield from paths(inner).values()


def paths(inner: Strategy, prefix: str = "") -> dict[str, Strategy]:
    """A strategy by the empty name, and those that it wraps by ``strategy.``, ``strategy.strategy.`` and so on."""
    found = {prefix: inner}
    for name, value in vars(inner).items():
        if isinstance(value, Strategy) and value is not inner:
            found.update(paths(value, f"{prefix}{name}."))
    return found


def innermost(inner: Strategy) -> Strategy:
    """The strategy that samples clients and averages: that which a wrapper wraps, else the strategy itself."""
    return list(layers(inner))[-1]


def privacy_wrapper(inner: Strategy) -> PrivacyWrapper | None:
    """The differential-privacy wrapper among a strategy's layers; None where there is none."""
    return next((layer for layer in layers(inner) if isinstance(layer, PRIVACY_WRAPPERS)), None)


def aggregates_repair(inner: Strategy) -> bool:
    """Whether replies of unlearn and repair rounds must go through the strategy's own aggregation.

    True for robust aggregators, whose user does not trust single clients, and for differential-privacy wrappers, whose
    guarantee covers only what went through them. False for FedAvg and the server optimisers: momenta of training must
    not act on repair. A strategy of the user's own says so by an attribute ``aggregates_repair = True``.
    """
    return any(isinstance(layer, (*ROBUST_AGGREGATORS, *PRIVACY_WRAPPERS)) for layer in layers(inner)) or any(
        bool(getattr(layer, _OPTS_IN, False)) for layer in layers(inner)
    )


def weight_key(inner: Strategy) -> str | None:
    """Name of the metric that weights replies; None where the strategy, one of the user's own, has none."""
    key = getattr(innermost(inner), "weighted_by_key", None)
    return key if isinstance(key, str) else None


def proximal_term(inner: Strategy) -> dict[str, float]:
    """What FedProx adds to the clients' training configuration; nothing for other strategies."""
    strategy = innermost(inner)
    return {"proximal-mu": strategy.proximal_mu} if isinstance(strategy, flower.FedProx) else {}


def minimum_replies(inner: Strategy) -> int:
    """How many replies an unlearn or repair round needs for a robust aggregator to be one; 1 for all others.

    A median or a trimmed mean of two is their mean; Krum holds for n >= 2 f + 3 replies with f malicious ones
    (Blanchard et al., NeurIPS 2017, proposition 1), Bulyan for n >= 4 f + 3 (El Mhamdi et al., ICML 2018).
    """
    needed = 1
    for layer in layers(inner):
        if isinstance(layer, flower.MultiKrum):
            needed = max(needed, 2 * layer.num_malicious_nodes + 3)
        elif isinstance(layer, flower.Bulyan):
            needed = max(needed, 4 * layer.num_malicious_nodes + 3)
        elif isinstance(layer, ROBUST_AGGREGATORS):
            needed = max(needed, 3)
    return needed


def why_class_refused(cls: type[Strategy]) -> str | None:
    """Why no strategy of a class can be wrapped; None where that depends on how one is made."""
    if issubclass(cls, _TREES):
        return "its model is a set of boosted trees, and unlearning changes the weights of a torch model"
    if issubclass(cls, _CLIENT_SIDE_PRIVACY):
        return (
            "clipping is left to a mod of the clients, and the server cannot see whether unlearn and repair messages"
            f" pass it; use {cls.__name__.replace('ClientSide', 'ServerSide')}"
        )
    return None


def _why_refused(layer: Strategy) -> str | None:
    reason = why_class_refused(type(layer))
    if reason is not None:
        return reason
    if isinstance(layer, PRIVACY_WRAPPERS):
        wrapped = layer.strategy
        if not isinstance(wrapped, FedAvg) or type(wrapped).aggregate_train is not FedAvg.aggregate_train:
            return (
                f"its noise is made for a mean of clipped updates, and {type(wrapped).__name__} makes something else"
                " of them, so that it would not cover what a client contributes; wrap FedAvg or FedProx"
            )
    if isinstance(layer, flower.MultiKrum | flower.Bulyan) and layer.num_malicious_nodes < 0:
        return f"num_malicious_nodes = {layer.num_malicious_nodes} was given; expected 0 or more"
    if isinstance(layer, flower.MultiKrum) and layer.num_nodes_to_select < 1:
        return f"num_nodes_to_select = {layer.num_nodes_to_select} was given; expected 1 or more"
    if isinstance(layer, flower.QFedAvg) and layer.client_learning_rate <= 0:
        return f"client_learning_rate = {layer.client_learning_rate} was given; expected a number above 0"
    if hasattr(layer, "inner") and hasattr(layer, "ledger"):
        return "it serves forget requests already; wrap the strategy in it once"
    return None


def _say_how_treated(layer: Strategy) -> None:
    name = type(layer).__name__
    if type(layer) not in vars(flower).values():
        logger.warning(
            "strategy %s is not one of Flower's: of its state, attributes that are arrays, lists or dictionaries of"
            " arrays, or numbers are stored and reset; its unlearn and repair rounds %s",
            name,
            "go through its own aggregate_train"
            if aggregates_repair(layer)
            else f"are averaged by the server (set {_OPTS_IN} = True on it for its own aggregate_train)",
        )
    if isinstance(layer, PRIVACY_WRAPPERS) and layer.noise_multiplier == 0:
        logger.warning("strategy %s adds no noise: noise_multiplier = 0 gives no differential privacy", name)
