"""Optimizers after a request: their averages of past gradients were computed from forgotten samples, too."""

from __future__ import annotations

from torch.optim import SGD, Adagrad, Optimizer


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


def learning_rate_of(optimizer: Optimizer) -> float | None:
    """Return the largest learning rate that an SGD optimizer started from; None for optimizers of another kind.

    A scheduler keeps the rates that it started from. Other optimizers divide by the size of gradients, so that their
    rates do not compare with those of SGD.
    """
    if not isinstance(optimizer, SGD):
        return None
    rates = [float(max(group["lr"], group.get("initial_lr", 0.0))) for group in optimizer.param_groups]
    return max(rates, default=0.0) or None
