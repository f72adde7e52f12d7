"""NoT (Khalil et al., "NoT: Federated Unlearning via Weight Negation", CVPR 2025, arXiv 2503.05657): the first layer's
weights are negated, and those that stay train on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from fed_unlearn.arrays import Arrays
from fed_unlearn.methods.base import Scope
from fed_unlearn.strategies.server_methods.base import MethodFailedError, ServerMethod, ServerWork
from fed_unlearn.strategies.server_methods.parameters import Layers, Rounds
from fed_unlearn.strategies.server_methods.parts import averaged, train_staying
from fed_unlearn.strategies.server_methods.registry import register
from fed_unlearn.strategies.state import MethodState


@register("weight-negation")
@dataclass(frozen=True, kw_only=True)
class WeightNegation(ServerMethod[MethodState]):
    """Multiply the weights of the first layers by -1, then have the clients that stay train as usual.

    Negation breaks how the layers work together, and keeps the norm of the weights and what each filter reacts to, so
    that training comes back soon (the paper's Equation 3 and Algorithm 1). Nothing is stored for it, and the leaving
    client takes no step: it may be gone. One negation serves all clients that leave. What the later layers know of
    their samples is left to the training to wear off: ask for more ``layers`` or rounds where an attack still finds it.

    Parameters
    ----------
    layers : int, default 1
        Number of layers whose weights are negated, counted from the input in the order of the model's arrays. At least
        1. Biases and normalisation stay.
    recovery_rounds : int, default 10
        Ordinary rounds of the clients that stay, at least 1.
    """

    paper: ClassVar[str] = "Khalil et al., NoT: Federated Unlearning via Weight Negation, CVPR 2025"
    scopes: ClassVar[tuple[Scope, ...]] = ("client",)
    needs: ClassVar[str] = "retain"
    shares_rounds: ClassVar[bool] = True

    layers: Layers = 1
    recovery_rounds: Rounds = 10

    def begin(self, work: ServerWork) -> MethodState:
        """The served model with negated weights."""
        return MethodState(step=0, arrays=negated(work.served, self.layers))

    def advance(self, work: ServerWork, state: MethodState) -> MethodState:
        """One ordinary round of those that stay."""
        arrays = averaged(train_staying(work, state.arrays, state.step))
        return state.followed_by(arrays, done=state.step + 1 >= self.recovery_rounds)

    def stronger(self) -> Self:
        """One more layer, and twice the rounds."""
        return replace(self, layers=self.layers + 1, recovery_rounds=2 * self.recovery_rounds)


def negated(arrays: Arrays, layers: int) -> Arrays:
    """A model whose first weights have the other sign.

    Parameters
    ----------
    arrays : dict of ndarray
        Arrays of the model, in the model's order.
    layers : int
        Number of arrays that are negated: the first ones with two or more dimensions.

    Raises
    ------
    MethodFailedError
        If the model has not so many.
    """
    weights = [name for name, value in arrays.items() if value.ndim >= 2 and np.issubdtype(value.dtype, np.floating)]
    if len(weights) < layers:
        raise MethodFailedError(f"layers = {layers}, and the model has {len(weights)} arrays of weights; give fewer")
    chosen = set(weights[:layers])
    return {name: -value if name in chosen else value for name, value in arrays.items()}
