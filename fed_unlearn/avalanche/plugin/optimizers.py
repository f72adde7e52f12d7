"""Optimizers after a request: their averages of past gradients were computed from forgotten samples, too."""

from __future__ import annotations

from torch.optim import Adagrad, Optimizer


def clear_momenta(optimizer: Optimizer) -> None:
    """Reset the optimizer's state to that before its first step, and drop the last gradients.

    Parameters
    ----------
    optimizer : Optimizer
        Changed in place. Learning rates stay. Most optimizers create their state at the first step. Adagrad starts from
        given values, and is set back to them.
    """
    optimizer.zero_grad(set_to_none=True)
    if not isinstance(optimizer, Adagrad):
        optimizer.state.clear()
        return
    for group in optimizer.param_groups:
        for state in [optimizer.state[parameter] for parameter in group["params"] if optimizer.state.get(parameter)]:
            state["step"].zero_()
            state["sum"].fill_(group["initial_accumulator_value"])
