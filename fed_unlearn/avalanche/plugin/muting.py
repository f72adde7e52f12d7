"""Hides one experience from all plug-ins of a strategy but one."""

from __future__ import annotations

from functools import partial
from typing import Any

from fed_unlearn.avalanche.plugin.memory.buffers import drop_batches


class Muting:
    """Leaves a strategy with a single plug-in, ``kept``, while an experience passes in which nothing is trained."""

    def __init__(self, kept: Any) -> None:
        self._kept = kept
        self._plugins: list[Any] | None = None
        self._adaptation: list[Any] = []

    @property
    def active(self) -> bool:
        """Whether an experience is being hidden now."""
        return self._plugins is not None

    def start(self, strategy: Any) -> None:
        """Stop the training of the current experience and take all other plug-ins away."""
        self._plugins = list(strategy.plugins)
        strategy.plugins[:] = [self._kept]  # in place: Avalanche goes through the list by index, and stops here
        strategy.stop_training()
        # A model with heads refuses to adapt to an experience of several tasks, and there is nothing to adapt to.
        self._adaptation = [vars(strategy)[name] for name in ("model_adaptation",) if name in vars(strategy)]
        strategy.model_adaptation = partial(_unchanged, strategy)

    def end(self, strategy: Any) -> None:
        """Give the strategy its plug-ins back, and drop the batches of the hidden experience."""
        strategy.plugins, self._plugins = self._plugins, None  # a new list: the event goes through the short one
        self._let_train(strategy)

    def recover(self, strategy: Any) -> None:
        """Give the plug-ins back if the last ``train`` call broke off while an experience was hidden."""
        if self._plugins is not None:
            strategy.plugins[:], self._plugins = self._plugins, None  # in place: the event goes on to all of them
            self._let_train(strategy)

    def _let_train(self, strategy: Any) -> None:
        vars(strategy).pop("model_adaptation", None)
        if self._adaptation:
            strategy.model_adaptation = self._adaptation.pop()
        strategy._stop_training = False  # Avalanche resets it only where there are epochs to stop
        drop_batches(strategy)


def _unchanged(strategy: Any, model: Any = None) -> Any:
    """Return the model as it is, in place of ``strategy.model_adaptation``."""
    return strategy.model if model is None else model
