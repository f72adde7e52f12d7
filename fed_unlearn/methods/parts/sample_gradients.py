"""The importance of parameters, from gradients of single samples that are computed in batches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidModelError
from fed_unlearn.model_inputs import model_inputs
from fed_unlearn.pass_counter import PassCounter

# Most gradient values held at once, 128 MiB. A sample's gradient has as many values as the model has parameters.
MOST_GRADIENTS = 2**25
LARGEST_CHUNK = 64  # most samples whose gradients are held at once

Objective = Callable[[Tensor, Tensor], Tensor]
"""Maps the logits (1, classes) and the label (1,) of a sample to the scalar whose gradient is taken."""

_GradientsOf = Callable[[dict[str, Tensor], Tensor, Tensor], dict[str, Tensor]]


def fisher_diagonal(model: nn.Module, samples: SampleSet, passes: PassCounter) -> dict[str, Tensor]:
    """Mean over samples of the squared gradient of each sample's cross-entropy (diagonal empirical Fisher).

    The parameters and the result are those of :func:`mean_of_gradients`.
    """

    def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
        return functional.cross_entropy(logits, label)

    return mean_of_gradients(model, samples, passes, cross_entropy, torch.square)


def synaptic_importance(model: nn.Module, samples: SampleSet, passes: PassCounter) -> dict[str, Tensor]:
    """Mean over samples of the absolute gradient of the logits' L2 norm (after MAS; Aljundi et al., ECCV 2018).

    MAS uses the square of the norm; Cha et al. (2024) use the norm itself. The parameters and the result are those of
    :func:`mean_of_gradients`.
    """

    def norm_of_logits(logits: Tensor, label: Tensor) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(logits)
        return norm

    return mean_of_gradients(model, samples, passes, norm_of_logits, torch.abs)


def mean_of_gradients(
    model: nn.Module,
    samples: SampleSet,
    passes: PassCounter,
    objective: Objective,
    transform: Callable[[Tensor], Tensor],
) -> dict[str, Tensor]:
    """Mean over samples of a function of each sample's own gradient.

    Parameters
    ----------
    model : nn.Module
        The model, in evaluation mode. With batch statistics a sample's gradient would depend on the other samples.
    samples : SampleSet
        The samples, on the model's device.
    passes : PassCounter
        Counts one forward and one backward pass for each sample.
    objective : callable
        Maps the logits and the label of a sample to the scalar that is differentiated.
    transform : callable
        Applied elementwise to the gradients before they are averaged.

    Returns
    -------
    dict of str to Tensor
        A tensor for each parameter that may be trained, by the parameter's name and in its shape.

    Raises
    ------
    InvalidModelError
        If ``torch.func`` cannot map the model.
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
    for images, labels in samples.evaluated().batches(plan):
        images = model_inputs(model, images)
        # vmap over gradients does not work with mixed precision.
        with torch.autocast(images.device.type, enabled=False):
            found = _mapped(gradients_of, values, images, labels)
        for name, gradients in found.items():
            totals[name] += transform(gradients).sum(dim=0)
        passes.add(forward=len(labels), backward=len(labels))
    return {name: total / len(samples) for name, total in totals.items()}


def _mapped(gradients_of: _GradientsOf, values: dict[str, Tensor], images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    try:
        return gradients_of(values, images, labels)
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise InvalidModelError(
            f"torch.func cannot map the model over single samples ({str(error).splitlines()[0][:200]}); expected one"
            " without branches on values and without in-place changes of buffers: use a method that needs no gradients"
            " of single samples"
        ) from error


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that may be trained, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
