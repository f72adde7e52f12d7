"""What is asked of the wrapped Flower strategy: which ones can be wrapped, their state, their sampling, their sums."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

from flwr.serverapp.strategy import Strategy

from fed_unlearn.strategies.inner.aggregation import (
    AggregationFailedError,
    TooFewRepliesError,
    aggregate_replies,
    aggregate_through,
    undone_on_error,
)
from fed_unlearn.strategies.inner.kinds import (
    aggregates_repair,
    check_kind,
    innermost,
    layers,
    minimum_replies,
    privacy_wrapper,
    weight_key,
)
from fed_unlearn.strategies.inner.state import (
    StateScalar,
    fresh_copy,
    remember_construction,
    reset_server_state,
    restore_server_state,
    server_state,
)

__all__ = [
    "AggregationFailedError",
    "StateScalar",
    "TooFewRepliesError",
    "aggregate_replies",
    "aggregate_through",
    "aggregates_repair",
    "check_supported",
    "fresh_copy",
    "innermost",
    "minima_within",
    "minimum_replies",
    "privacy_wrapper",
    "reset_server_state",
    "restore_server_state",
    "seeded_sampling",
    "server_state",
    "undone_on_error",
    "weight_key",
]

_MINIMA = ("min_available_nodes", "min_train_nodes", "min_evaluate_nodes")


def check_supported(inner: Strategy) -> None:
    """Refuse a strategy whose aggregation would be meaningless in unlearning, and say why.

    Every strategy of Flower is accepted but those named below, and so are their subclasses and strategies of the
    user's own; of the latter the log says how they are treated.

    Parameters
    ----------
    inner : Strategy
        As it was constructed: what it holds now is what a reset goes back to.

    Raises
    ------
    InvalidParameterError
        For gradient boosted trees, for differential privacy whose clipping happens at the clients or whose noise does
        not fit the aggregation that it is added to, for a strategy that is wrapped already, and for parameters that
        leave nothing to aggregate.
    """
    check_kind(inner)
    remember_construction(inner)


@contextmanager
def minima_within(inner: Strategy, available: int) -> Iterator[None]:
    """Let a strategy sample from fewer nodes than it asks for: those left out will not come, and it would wait forever.

    Parameters
    ----------
    inner : Strategy
        Its minima, and those of the strategy that it wraps, are as before afterwards.
    available : int
        Eligible nodes.
    """
    before = [
        (layer, name, getattr(layer, name)) for layer in layers(inner) for name in _MINIMA if hasattr(layer, name)
    ]
    try:
        for layer, name, value in before:
            setattr(layer, name, min(value, available))
        yield
    finally:
        for layer, name, value in before:
            setattr(layer, name, value)


@contextmanager
def seeded_sampling(seed: int) -> Iterator[None]:
    """Let Flower's node sampling, which draws from Python's global generator, depend on a seed alone.

    The global generator is as before afterwards.
    """
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
