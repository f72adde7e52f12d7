"""What a strategy carries and keeps is put back, object by object, where an attempt fails."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import Strategy
from torch import Tensor, nn

from fed_unlearn.strategies.inner.contents import Path, parts, walk
from fed_unlearn.strategies.inner.state import layers, own_attributes, restore_server_state, server_state

logger = logging.getLogger("fed_unlearn.strategies")


class StrategyBefore:
    """A strategy as it is now, to be put back.

    Parameters
    ----------
    inner : Strategy
    whole : bool
        Whether an attempt calls the strategy's own hooks, which may change what its attributes hold.
    """

    def __init__(self, inner: Strategy, *, whole: bool) -> None:
        self._inner = inner
        self._state = server_state(inner)
        self._attributes: list[tuple[Strategy, dict[str, Any]]] = []
        self._contents: list[tuple[str, Callable[[], object]]] = []
        if whole:
            for layer in layers(inner):
                self._attributes.append((layer, dict(vars(layer))))
                for name, value in own_attributes(layer).items():
                    self._remember(f"{type(layer).__name__}.{name}", value)

    def put_back(self) -> None:
        """Make the strategy what it was: the same objects, which hold the same."""
        for layer, attributes in self._attributes:
            vars(layer).clear()
            vars(layer).update(attributes)
        for attribute, put_back in self._contents:
            try:
                put_back()
            except Exception as error:  # whatever an object of the user's own raises
                logger.warning("%s is not as it was before the attempt: %s", attribute, type(error).__name__)
        restore_server_state(self._inner, *self._state)

    def _remember(self, attribute: str, value: object) -> None:
        seen: set[int] = set()
        failed: list[Exception] = []

        def visit(path: Path, part: object) -> bool:
            is_seen = id(part) in seen
            if not is_seen:
                seen.add(id(part))
                self._contents.extend((attribute, undo) for undo in _undo_of(part))
            return is_seen

        walk(value, (attribute,), visit, failed)
        for error in failed:
            logger.warning(
                "%s was not wholly looked through; what an attempt changes in it stays changed: %s",
                attribute,
                type(error).__name__,
            )


def _undo_of(value: Any) -> list[Callable[[], object]]:
    """What makes a value hold again what it holds now; nothing for one that cannot be changed."""
    if isinstance(value, nn.Module):
        state = deepcopy(value.state_dict())
        return [lambda: value.load_state_dict(state)]
    if isinstance(value, Tensor):
        tensor = value.detach().clone()
        return [lambda: _fill(value, tensor)]
    if isinstance(value, np.ndarray):
        array = value.copy()
        return [lambda: np.copyto(value, array)] if value.flags.writeable else []
    if isinstance(value, list):
        items = list(value)
        return [lambda: value.__setitem__(slice(None), items)]
    if isinstance(value, deque):
        held = list(value)
        return [value.clear, lambda: value.extend(held)]
    if isinstance(value, dict | ArrayRecord):
        entries = dict(value)
        return [value.clear, lambda: value.update(entries)]
    if not isinstance(value, tuple) and hasattr(value, "__dict__") and parts(value):
        attributes = dict(vars(value))
        return [vars(value).clear, lambda: vars(value).update(attributes)]
    return []


def _fill(tensor: Tensor, values: Tensor) -> None:
    with torch.no_grad():
        tensor.copy_(values)
