"""Optimizers after a request: what they remember of gradients was learned from forgotten samples too."""

from __future__ import annotations

from torch.optim import Adagrad, Optimizer


def clear_momenta(optimizer: Optimizer) -> None:
    """Set an optimizer's memory of gradients back to what it was before the first step, and drop the last gradients.

    Parameters
    ----------
    optimizer : Optimizer
        Changed in place. Most make what they remember of a parameter at its first step; Adagrad begins with values
        that it was given. Learning rates stay.
    """
    optimizer.zero_grad(set_to_none=True)
    if not isinstance(optimizer, Adagrad):
        optimizer.state.clear()
        return
    for group in optimizer.param_groups:
        for state in [optimizer.state[parameter] for parameter in group["params"] if optimizer.state.get(parameter)]:
            state["step"].zero_()
            state["sum"].fill_(group["initial_accumulator_value"])
