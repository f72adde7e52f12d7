"""What the output layer of a model reads, in double precision, and the output layer that a closed form gives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidModelError
from fed_unlearn.logits import batch_slices, device_of, evaluation_mode
from fed_unlearn.methods.parts.heads import Head, OutputLayer, one_row_a_sample
from fed_unlearn.methods.parts.ridge import RidgeStatistics
from fed_unlearn.model_copies import copied
from fed_unlearn.model_inputs import model_inputs
from fed_unlearn.model_wrappers import unwrapped

_BATCH = 512


def frozen_features(user: str, model: nn.Module, head: Head, samples: SampleSet) -> Tensor:
    """What the output layer reads of each sample, computed in double precision and in evaluation mode.

    In single precision the features of a sample depend on the batch that it is in. In double precision they differ by
    so little that rounding to a step takes it away.

    Parameters
    ----------
    user : str
        Name of the method or the client, for error messages.
    model : nn.Module
        The model. It stays as it is: a copy is computed with.
    head : Head
        Output layer of the model.
    samples : SampleSet
        Samples, which are read without random augmentation.

    Returns
    -------
    Tensor of shape (n, features), float64, on the CPU

    Raises
    ------
    InvalidModelError
        If the model does not compute in double precision, or calls its output layer several times.
    """
    features = head.layer.weight.shape[1]
    if len(samples) == 0:
        return torch.empty(0, features, dtype=torch.float64)
    doubled = unwrapped(copied(model)).double()
    device = device_of(doubled)
    if device.type == "mps":  # it has no double precision
        device = torch.device("cpu")
        doubled = doubled.to(device)
    read, found = samples.evaluated(), []
    try:
        with (
            evaluation_mode(doubled),
            torch.inference_mode(),
            torch.autocast(device.type, enabled=False),
            _inputs_of(doubled.get_submodule(head.name)) as calls,
        ):
            for inputs, labels in read.batches(batch_slices(read, device)):
                given = model_inputs(doubled, inputs.to(device))
                doubled(given.double() if given.is_floating_point() else given)
                found.append(_one_row_each(user, head, calls, len(labels)))
    except RuntimeError as error:
        raise InvalidModelError(
            f"{user}: the model does not compute in double precision ({str(error).splitlines()[0][:200]}); expected one"
            " that follows the precision of its weights"
        ) from error
    return torch.cat(found)


@torch.inference_mode()
def features_above(user: str, upper: nn.Module, head: Head, activations: Tensor, device: torch.device) -> Tensor:
    """What the output layer reads of each sample, from activations below it, in the model's own precision.

    Parameters
    ----------
    user : str
        Name of the method or the client, for error messages.
    upper : nn.Module
        The part above the activations, in evaluation mode, with the output layer in it.
    head : Head
        Output layer of the model.
    activations : Tensor of shape (n, ...)
    device : torch.device
        Device of the model.

    Returns
    -------
    Tensor of shape (n, features), float64, on the CPU

    Raises
    ------
    InvalidModelError
        If the model calls its output layer several times.
    """
    found = []
    with _inputs_of(head.layer) as calls:
        for part in activations.split(_BATCH):
            upper(part.to(device))
            found.append(_one_row_each(user, head, calls, len(part)))
    return torch.cat(found)


@contextmanager
def _inputs_of(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Yield a list to which each call of the layer adds its input."""
    calls: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda module, inputs: calls.append(inputs[0].detach()))
    try:
        yield calls
    finally:
        handle.remove()


def _one_row_each(user: str, head: Head, calls: list[Tensor], count: int) -> Tensor:
    """What the output layer was called with for so many samples; the calls are taken away."""
    taken, calls[:] = list(calls), []
    if len(taken) != 1 or len(rows := one_row_a_sample(taken[0], head.layer)) != count:
        raise InvalidModelError(
            f"{user}: layer {head.name!r} was called {len(taken)} times for {count} samples; expected an output layer"
            " that is called once, with one row a sample"
        )
    return rows.double().cpu().clone()


def check_replaceable(user: str, head: Head) -> None:
    """Raise if the weights of an output layer cannot be set.

    Parameters
    ----------
    user : str
        Name of the method or the client, for error messages.
    head : Head
        Output layer of the model.

    Raises
    ------
    InvalidModelError
        If they are computed from others, as by weight normalisation.
    """
    if not isinstance(head.layer._parameters.get("weight"), nn.Parameter):
        raise InvalidModelError(
            f"{user}: the weight of layer {head.name!r} is computed from others; expected a plain output layer"
        )


def solved_head(
    statistics: RidgeStatistics, ridge: float, *, has_bias: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weight and bias of the ridge head, with the penalty that suits the features.

    Parameters
    ----------
    statistics : RidgeStatistics
        Sums over at least one sample.
    ridge : float
        The penalty, as a multiple of the mean over features of the sum of squares; above 0.
    has_bias : bool
        Whether the layer has a bias. Without one it is 0.

    Returns
    -------
    tuple of ndarray of shape (classes, features) and ndarray of shape (classes,), float64
    """
    return statistics.solve(statistics.penalty_of(ridge), intercept=has_bias)


def put_head(layer: OutputLayer, statistics: RidgeStatistics, ridge: float) -> None:
    """Give an output layer the ridge head of some statistics, in its own precision.

    Parameters
    ----------
    layer : nn.Linear or nn.Conv2d
        The output layer. It is changed.
    statistics : RidgeStatistics
        Sums over at least one sample.
    ridge : float
        The penalty, as for :func:`solved_head`.
    """
    weight, bias = solved_head(statistics, ridge, has_bias=layer.bias is not None)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight).reshape(layer.weight.shape))
        if layer.bias is not None:
            layer.bias.copy_(torch.from_numpy(bias))
