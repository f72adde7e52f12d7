"""Stochastic gradient descent by torch's own function, without the optimizer object around it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd


class GradientDescent:
    """Steps of SGD as ``torch.optim.SGD`` takes them, bit for bit.

    ``torch.optim.sgd.sgd`` does the arithmetic, for all parameters at once. The optimizer object looks for hooks,
    profilers and closures at every step, and the first one of a process imports ``torch._dynamo``, which takes two
    seconds. A client of a real federation is a new process for every message.

    Parameters
    ----------
    parameters : iterable of nn.Parameter
        Parameters of the model. Those that do not require a gradient stay as they are.
    learning_rate : float
        Learning rate, above 0.
    momentum : float
        Momentum, in [0, 1).
    weight_decay : float
        Weight decay, at least 0.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        learning_rate: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._learning_rate, self._momentum, self._weight_decay = learning_rate, momentum, weight_decay
        self._velocities: list[Tensor | None] = [None] * len(self._parameters)
        self.clear()

    def clear(self) -> None:
        """Drop all gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Take a step along the gradients, and drop them. Parameters without a gradient stay as they are."""
        moved = [index for index, parameter in enumerate(self._parameters) if parameter.grad is not None]
        if not moved:
            return
        parameters: list[Tensor] = [self._parameters[index] for index in moved]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        velocities = [self._velocities[index] for index in moved]
        sgd(
            parameters,
            gradients,
            velocities,
            foreach=True,
            weight_decay=self._weight_decay,
            momentum=self._momentum,
            lr=self._learning_rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        for index, velocity in zip(moved, velocities, strict=True):
            self._velocities[index] = velocity
        self.clear()
