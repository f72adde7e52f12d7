"""Strategies that have trained and unlearned, for what their regularisers remember of it."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from watched_strategies import made_benchmark

from fed_unlearn.avalanche.streams.samples import without

FORGOTTEN = [str(index) for index in range(0, 60, 6)]
"""Class 0: ten of the first experience's twenty samples, none of the others'."""

LEFT = [10, 20, 20]
TRAINED = [20, 20, 20]


def retained(experience: Any, forgotten: list[str] = FORGOTTEN) -> Any:
    view = copy.copy(experience)
    view._dataset = without(experience.dataset, forgotten)
    return view


def trained(strategy: Any, count: int = 2, kind: str = "nc") -> tuple[list[Any], list[Any]]:
    """The strategy trains on ``count`` experiences; what is left of these, and the other experiences."""
    experiences = list(made_benchmark(kind).train_stream)
    strategy.train(experiences[:count])
    return [retained(experience) for experience in experiences[:count]], experiences[count:]


def unlearn(strategy: Any) -> dict[str, Tensor]:
    """Other weights, in place; a copy of them."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in strategy.model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) / 10)
    return weights_of(strategy.model)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def plugin_of(strategy: Any, kind: type) -> Any:
    return next(plugin for plugin in strategy.plugins if isinstance(plugin, kind))


def penalty_gradient(strategy: Any, plugin: Any, shift: float) -> dict[str, Tensor]:
    """What a plug-in adds to the gradient, ``shift`` from the weights that the model has now."""
    model = strategy.model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(shift)
    strategy.loss = torch.ones(1, requires_grad=True) * 1.0  # MAS takes a loss of zero for none
    plugin.before_backward(strategy)
    names = [name for name, _ in model.named_parameters()]
    gradients = torch.autograd.grad(strategy.loss.sum(), list(model.parameters()), allow_unused=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sub_(shift)
    return {name: torch.zeros(1) if g is None else g for name, g in zip(names, gradients, strict=True)}


def assert_close(found: dict[str, Any], expected: dict[str, Tensor], **tolerances: float) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(getattr(found[name], "data", found[name]), value, **tolerances)


def no_larger(values: dict[str, Tensor], before: dict[str, Tensor]) -> dict[str, Tensor]:
    """All values by one factor, of at most 1, so that the largest is no larger than the largest before."""
    factor = min(1.0, float(max(v.max() for v in before.values()) / max(v.max() for v in values.values())))
    return {name: value * factor for name, value in values.items()}


def copied(importances: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value.data.clone() for name, value in importances.items()}
