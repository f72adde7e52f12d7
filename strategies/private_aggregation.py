"""What is done around Flower's privacy wrappers so that their noise covers what it is added to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from flwr.app import Message
from flwr.serverapp.strategy import DifferentialPrivacyServerSideAdaptiveClipping
from numpy.typing import NDArray

from fed_unlearn.arrays import Arrays
from fed_unlearn.strategies.inner_kinds import PrivacyWrapper


@contextmanager
def noise_for(wrapper: PrivacyWrapper, replies: int) -> Iterator[None]:
    """Let a wrapper make its noise for the replies that are there.

    Flower's standard deviation is z C / num_sampled_clients, and one client moves the mean of n replies by up to C / n:
    with fewer replies than were to be sampled the noise would be too small by their ratio.

    Parameters
    ----------
    wrapper : Strategy
        Its ``num_sampled_clients`` is as before afterwards.
    replies : int
        At least 1.
    """
    before = wrapper.num_sampled_clients
    wrapper.num_sampled_clients = replies
    try:
        yield
    finally:
        wrapper.num_sampled_clients = before


def register_release(wrapper: PrivacyWrapper, number: int, replies: Iterable[Message]) -> None:
    """Tell Flower's own accountant, where the wrapper has one, of a release that no ``configure_train`` announced.

    Raises
    ------
    PrivacyBudgetExhausted
        If the release would exceed its budget.
    ValueError
        If there are more replies than its population.
    """
    if getattr(wrapper, "accountant", None) is not None:
        wrapper._prepare_accounting(number, list(replies))  # type: ignore[union-attr]


def topped_up(aggregate: Mapping[str, NDArray[Any]], wrapper: PrivacyWrapper, clipped_to: float, seed: int) -> Arrays:
    """An aggregate with the rest of the noise that its clipping norm asks for.

    Flower adapts the norm before it makes the noise: where the norm shrank from C to C', the noise is z C' / n on
    updates that were clipped to C. Added here is the rest, z sqrt(C^2 - C'^2) / n.

    Parameters
    ----------
    aggregate : mapping of str to ndarray
        With the wrapper's own noise.
    wrapper : Strategy
        After the aggregation, inside :func:`noise_for`.
    clipped_to : float
        The norm that updates were clipped to.
    seed : int
    """
    is_adaptive = isinstance(wrapper, DifferentialPrivacyServerSideAdaptiveClipping)
    if not is_adaptive or wrapper.clipping_norm >= clipped_to or wrapper.noise_multiplier == 0:
        return dict(aggregate)
    rest = math.sqrt(clipped_to**2 - wrapper.clipping_norm**2)
    deviation = wrapper.noise_multiplier * rest / wrapper.num_sampled_clients
    generator = np.random.default_rng(seed)
    return {
        name: np.asarray(value + generator.normal(0.0, deviation, value.shape), dtype=value.dtype)
        for name, value in aggregate.items()
    }
