"""How a strategy samples nodes: from those that are there, and by a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

from flwr.serverapp.strategy import Strategy

from fed_unlearn.strategies.inner.state import layers

_MINIMA = ("min_available_nodes", "min_train_nodes", "min_evaluate_nodes")


@contextmanager
def minima_within(inner: Strategy, available: int) -> Iterator[None]:
    """Let a strategy sample from fewer nodes than it asks for: those left out will not come, and it would wait forever.

    Parameters
    ----------
    inner : Strategy
        The strategy. Its minima, and those of the strategy that it wraps, are as before afterwards.
    available : int
        Number of eligible nodes.
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
