"""Gradients of the loss with respect to all floating-point parameters of a model, which stays as it is."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.logits import batch_slices, device_of, evaluation_mode
from fed_unlearn.model_inputs import memory_layout, model_inputs
from fed_unlearn.model_wrappers import unwrapped


def floating_parameters(model: nn.Module) -> dict[str, Tensor]:
    """The floating-point parameters by name, detached; also those that require no gradient, and without wrappers."""
    named = unwrapped(model).named_parameters()
    return {name: value.detach() for name, value in named if value.is_floating_point()}


def loss_gradient(model: nn.Module, samples: SampleSet) -> dict[str, Tensor]:
    """Gradient of the cross-entropy, summed over samples, in evaluation mode.

    Parameters
    ----------
    model : nn.Module
        The model. It is not changed.
    samples : SampleSet
        Samples to sum over, at least one, read without random augmentation.

    Returns
    -------
    dict of str to Tensor
        Gradient by the parameter's name, of the parameter's shape, in double precision on its device.
    """
    network, device, read = unwrapped(model), device_of(model), samples.evaluated()
    parameters = {name: value.requires_grad_() for name, value in floating_parameters(model).items()}
    gradient = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in parameters.items()}
    with evaluation_mode(network), torch.enable_grad():
        for inputs, labels in read.batches(batch_slices(read, device)):
            inputs = model_inputs(network, inputs.to(device, memory_format=memory_layout(network)))
            logits = functional_call(network, parameters, (inputs,)).float()
            loss = functional.cross_entropy(logits, labels.to(device), reduction="sum")
            parts = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            for name, part in zip(parameters, parts, strict=True):
                if part is not None:
                    gradient[name] += part
    return gradient


def cosine(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """Cosine of two vectors that are given by parameter; 0 where either is 0."""
    product = sum(float((first[name].double() * second[name].double()).sum()) for name in first)
    norms = norm(first) * norm(second)
    return product / norms if norms else 0.0


def norm(vector: dict[str, Tensor]) -> float:
    """L2 norm of a vector that is given by parameter."""
    return math.sqrt(sum(float(part.double().square().sum()) for part in vector.values()))
