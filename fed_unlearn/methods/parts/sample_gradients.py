"""Gradients of single samples, in batches, and what methods reduce them to: how much a parameter matters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from fed_unlearn.data.images import Samples
from fed_unlearn.methods.base import PassCounter

MOST_GRADIENTS = 2**25  # numbers held at once, 128 MiB: a sample's gradient has as many as the model has parameters
LARGEST_CHUNK = 64

Objective = Callable[[Tensor, Tensor], Tensor]
"""From the logits (1, classes) and the label (1,) of a sample to the scalar whose gradient is taken."""


def fisher_diagonal(model: nn.Module, samples: Samples, passes: PassCounter) -> dict[str, Tensor]:
    """Mean over samples of the squared gradient of each sample's cross-entropy (diagonal empirical Fisher).

    Parameters and result as in :func:`mean_of_gradients`.
    """

    def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
        return functional.cross_entropy(logits, label)

    return mean_of_gradients(model, samples, passes, cross_entropy, torch.square)


def synaptic_importance(model: nn.Module, samples: Samples, passes: PassCounter) -> dict[str, Tensor]:
    """Mean over samples of the absolute gradient of the logits' L2 norm (after MAS; Aljundi et al., ECCV 2018).

    MAS takes the square of the norm; Cha et al. (2024) the norm itself.

    Parameters and result as in :func:`mean_of_gradients`.
    """

    def norm_of_logits(logits: Tensor, label: Tensor) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(logits)
        return norm

    return mean_of_gradients(model, samples, passes, norm_of_logits, torch.abs)


def mean_of_gradients(
    model: nn.Module, samples: Samples, passes: PassCounter, objective: Objective, transform: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """Mean over samples of a function of each sample's own gradient.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode: with batch statistics, a sample's gradient would depend on the others.
    samples : Samples
        On the model's device.
    passes : PassCounter
        Counts one forward and one backward pass a sample.
    objective : callable
        What is differentiated.
    transform : callable
        Applied elementwise to the gradients before they are averaged.

    Returns
    -------
    dict of str to Tensor
        By the names of the parameters that may be trained, in their shapes.
    """
    values = {name: parameter.detach() for name, parameter in trainable(model).items()}

    def value_of(parameters: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(model, parameters, (image.unsqueeze(0),))
        return objective(logits.float(), label.unsqueeze(0))

    gradients_of = vmap(grad(value_of), in_dims=(None, 0, 0))
    totals = {name: torch.zeros_like(value) for name, value in values.items()}
    size = sum(value.numel() for value in values.values())
    chunk = max(1, min(LARGEST_CHUNK, MOST_GRADIENTS // max(1, size)))
    plan = torch.arange(len(samples), device=samples.labels.device).split(chunk)
    for images, labels in samples.batches(plan):
        images = images.contiguous(memory_format=torch.channels_last)
        # Gradients sample by sample and mixed precision do not go together.
        with torch.autocast(images.device.type, enabled=False):
            found = gradients_of(values, images, labels)
        for name, gradients in found.items():
            totals[name] += transform(gradients).sum(dim=0)
        passes.add(forward=len(labels), backward=len(labels))
    return {name: total / len(samples) for name, total in totals.items()}


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that may be trained, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


@dataclass(frozen=True)
class HeldParameters:
    """Parameters and how strongly each is held at the value that it had.

    Attributes
    ----------
    parameters, values, weights : list of Tensor
        The parameters themselves; their values when they were taken hold of; one minus their importance, scaled to
        [0, 1] tensor by tensor (Cha et al., 2024, eq. 7): what matters to the forget samples is free.
    """

    parameters: list[nn.Parameter]
    values: list[Tensor]
    weights: list[Tensor]

    @classmethod
    def by(cls, importance: Mapping[str, Tensor], model: nn.Module, parameters: Sequence[nn.Parameter]) -> Self:
        """Hold parameters of a model by their importance, both by name."""
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        weights = []
        for parameter in parameters:
            values = importance[names[id(parameter)]]
            low, high = values.min(), values.max()
            weights.append(1 - (values - low) / (high - low).clamp(min=torch.finfo(values.dtype).tiny))
        return cls(list(parameters), [parameter.detach().clone() for parameter in parameters], weights)

    def penalty(self) -> Tensor:
        """Sum of ``weight * (parameter - value)^2``; a scalar with gradients."""
        terms = zip(self.parameters, self.values, self.weights, strict=True)
        return torch.stack([(weight * (now - value).square()).sum() for now, value, weight in terms]).sum()
