"""Puts a strategy's weights and optimizer back if a commit breaks off."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def undone_on_error(strategy: Any) -> Iterator[None]:
    """Return a context. If it is left by an exception, weights and optimizer state are those from before.

    Parameters
    ----------
    strategy : SupervisedTemplate
        The strategy. Gradients are not put back: each step of training computes them anew. Neither is the state of
        plug-ins.
    """
    state = strategy.optimizer.state
    weights = copy.deepcopy(strategy.model.state_dict())
    held = [(parameter, copy.deepcopy(values)) for parameter, values in state.items()]
    try:
        yield
    except BaseException:
        strategy.model.load_state_dict(weights)
        state.clear()
        state.update(held)
        raise
