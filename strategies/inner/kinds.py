"""Which strategies of Flower can be wrapped, and what kind each of them is."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import FedAvg, Strategy

from fed_unlearn import protocol
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.strategies.inner.frozen_head import FrozenHead
from fed_unlearn.strategies.inner.own_start import has_own_start, why_start_refused
from fed_unlearn.strategies.inner.state import layers, remember_construction

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


def check_supported(inner: Strategy) -> None:
    """Refuse a strategy whose aggregation would be meaningless in unlearning, and say why.

    Every strategy of Flower is accepted but those named below, and so are their subclasses and strategies of the
    user's own; of the latter the log says how they are treated.

    Parameters
    ----------
    inner : Strategy
        The strategy as it was constructed: what it holds now is what a reset goes back to.

    Raises
    ------
    InvalidParameterError
        For gradient boosted trees, for differential privacy whose clipping happens at the clients or whose noise does
        not fit the aggregation that it is added to, for a strategy that is wrapped already, for parameters that leave
        nothing to aggregate, and for a ``start()`` of its own that cannot run the rounds.
    """
    check_kind(inner)
    remember_construction(inner)


def check_kind(inner: Strategy) -> None:
    """Refuse what :func:`~fed_unlearn.strategies.inner.kinds.check_supported` refuses."""
    if protocol.is_secure_aggregation(inner):
        raise InvalidParameterError(f"{type(inner).__name__} was given as the strategy; {protocol.HIDDEN_REPLIES}")
    if not isinstance(inner, Strategy):
        given = inner.__name__ if isinstance(inner, type) else type(inner).__name__
        raise InvalidParameterError(f"{given} was given as the strategy; expected an instance of a Flower Strategy")
    for layer in layers(inner):
        reason = _why_refused(layer)
        if reason is not None:
            raise InvalidParameterError(f"strategy {type(layer).__name__} cannot be wrapped: {reason}")
    if (reason := why_start_refused(inner)) is not None:
        raise InvalidParameterError(f"strategy {type(inner).__name__} cannot be wrapped: {reason}")
    for layer in layers(inner):
        _say_how_treated(layer)
        if layer is not inner and has_own_start(layer):
            logger.warning(
                "start() of %s does not run: %s is around it, and Flower runs that one's alone",
                type(layer).__name__,
                type(inner).__name__,
            )


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


def needed_metric(inner: Strategy) -> str | None:
    """Name of the metric of training that a strategy cannot do without, beside the weight; None for most."""
    key = getattr(innermost(inner), "train_loss_key", None)
    return key if isinstance(key, str) else None


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
    if type(layer) not in (*vars(flower).values(), FrozenHead):
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


@dataclass(frozen=True)
class InnerKind:
    """What kind of strategy is wrapped, as far as serving requests depends on it.

    Attributes
    ----------
    is_private : bool
        Whether every round goes through a differential-privacy wrapper.
    trusts_clients : bool
        Whether the strategy takes every client's model as it is, and does not bound changes by itself.
    minimum_replies : int
        Minimum number of replies, as :func:`minimum_replies` gives it.
    min_available_nodes : int
        Number of nodes that the strategy waits for.
    proximal : mapping of str to float
        What FedProx adds to the clients' training configuration; nothing for other strategies.
    """

    is_private: bool
    trusts_clients: bool
    minimum_replies: int
    min_available_nodes: int
    proximal: Mapping[str, float]


def kind_of(inner: Strategy) -> InnerKind:
    """The kind of a strategy."""
    strategy = innermost(inner)
    return InnerKind(
        is_private=privacy_wrapper(inner) is not None,
        trusts_clients=not aggregates_repair(inner),
        minimum_replies=minimum_replies(inner),
        min_available_nodes=int(getattr(strategy, "min_available_nodes", 1)),
        proximal={"proximal-mu": strategy.proximal_mu} if isinstance(strategy, flower.FedProx) else {},
    )
