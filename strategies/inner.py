"""What is asked of the wrapped Flower strategy, and which ones can be wrapped."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager

from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM, FedProx, Strategy

from fed_unlearn.errors import InvalidParameterError

SUPPORTED: tuple[type[Strategy], ...] = (FedAvg, FedAvgM, FedAdam, FedProx)

_SERVER_STATE = ("m_t", "v_t", "momentum_vector", "current_arrays")
"""Attributes in which these strategies keep a copy of the model, or momenta that still carry forgotten data."""


def check_supported(inner: Strategy) -> None:
    """Refuse a strategy whose aggregation would not do what unlearning needs.

    Raises
    ------
    InvalidParameterError
        Robust aggregators may discard the few holders that unlearn, and differential-privacy wrappers lose their
        guarantee if unlearning goes past them.
    """
    if type(inner) not in SUPPORTED:
        known = ", ".join(cls.__name__ for cls in SUPPORTED)
        raise InvalidParameterError(f"strategy {type(inner).__name__} cannot be wrapped yet; wrap one of {known}")


def fresh_copy(inner: Strategy) -> Strategy:
    """A copy of a strategy without the server state of earlier rounds."""
    copied = copy.deepcopy(inner)
    reset_server_state(copied)
    return copied


def reset_server_state(inner: Strategy) -> None:
    """Forget momenta and the strategy's own copy of the model."""
    for name in _SERVER_STATE:
        if hasattr(inner, name):
            setattr(inner, name, None)


_MINIMA = ("min_available_nodes", "min_train_nodes", "min_evaluate_nodes")


@contextmanager
def minima_within(inner: Strategy, available: int) -> Iterator[None]:
    """Let a strategy sample from fewer nodes than it asks for: those left out will not come, and it would wait forever.

    Parameters
    ----------
    inner : Strategy
        Its minima are as before afterwards.
    available : int
        Eligible nodes.
    """
    before = {name: getattr(inner, name) for name in _MINIMA if hasattr(inner, name)}
    try:
        for name, value in before.items():
            setattr(inner, name, min(value, available))
        yield
    finally:
        for name, value in before.items():
            setattr(inner, name, value)


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
