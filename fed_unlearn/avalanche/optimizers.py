"""Optimizers after a request: what they remember of gradients was learned from forgotten samples too."""

from __future__ import annotations

from torch import Tensor
from torch.optim import Optimizer


def clear_momenta(optimizer: Optimizer) -> None:
    """Set moving averages and step counts to zero, as before the first step; learning rates stay.

    Parameters
    ----------
    optimizer : Optimizer
        Changed in place. What is neither a tensor nor a number is dropped.
    """
    for state in optimizer.state.values():
        for name, value in list(state.items()):
            if isinstance(value, Tensor):
                value.zero_()
            elif isinstance(value, int | float):
                state[name] = 0
            else:
                del state[name]
