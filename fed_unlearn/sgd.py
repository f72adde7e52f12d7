"""Stochastic gradient descent with momentum, without what ``torch.optim`` does beside the arithmetic."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class GradientDescent:
    """Steps of SGD that change parameters as ``torch.optim.SGD`` does, bit for bit.

    A step calls one operation for all parameters, where ``torch.optim`` calls one for each and looks for hooks,
    profilers and closures. The first optimizer of a process also imports ``torch._dynamo``, which takes two seconds.

    Parameters
    ----------
    parameters : iterable of nn.Parameter
        Those that do not require a gradient stay as they are.
    learning_rate : float
        Above 0.
    momentum : float
        In [0, 1).
    weight_decay : float
        At least 0.
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
        self._velocities: dict[int, Tensor] = {}
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
        parameters = [self._parameters[index] for index in moved]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self._weight_decay:
            gradients = list(torch._foreach_add(gradients, parameters, alpha=self._weight_decay))
        if self._momentum:
            gradients = self._with_momentum(moved, gradients)
        torch._foreach_add_(parameters, gradients, alpha=-self._learning_rate)
        self.clear()

    def _with_momentum(self, moved: list[int], gradients: list[Tensor]) -> list[Tensor]:
        """The velocities after a step; the first one of a parameter is its gradient."""
        known = [
            (index, gradient) for index, gradient in zip(moved, gradients, strict=True) if index in self._velocities
        ]
        if known:
            velocities = [self._velocities[index] for index, _ in known]
            torch._foreach_mul_(velocities, self._momentum)
            torch._foreach_add_(velocities, [gradient for _, gradient in known])
        for index, gradient in zip(moved, gradients, strict=True):
            if index not in self._velocities:
                self._velocities[index] = gradient.clone()
        return [self._velocities[index] for index in moved]
