"""The inputs and the raw outputs of a model's output layer, before anything else changes the outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidModelError
from fed_unlearn.logits import batch_slices, device_of, evaluation_mode
from fed_unlearn.methods.parts.heads import OutputLayer, find_head, one_row_a_sample
from fed_unlearn.model_inputs import memory_layout, model_inputs
from fed_unlearn.model_wrappers import unwrapped


def output_layer(audit: str, model: nn.Module, samples: SampleSet, name: str | None = None) -> OutputLayer:
    """The layer that gives the raw logits, as :func:`~fed_unlearn.methods.parts.heads.find_head` finds it.

    Parameters
    ----------
    audit : str
        Name of the audit, for error messages.
    model : nn.Module
    samples : SampleSet
        Samples, at least one. The first is passed through the model.
    name : str, optional
        Name of the layer in ``model.named_modules()``, if it is another one.

    Returns
    -------
    nn.Linear or nn.Conv2d
        The layer, which has one output a class.

    Raises
    ------
    InvalidModelError
        If there is no such layer, or several are, or it has not one output for each of the model's.
    """
    return find_head(audit, model, samples, name).layer


@contextmanager
def raw_logits(model: nn.Module, layer: OutputLayer) -> Iterator[Callable[[Tensor], Tensor]]:
    """Yield a function from inputs to the output layer's own outputs, with gradients; later masks do not change them.

    Parameters
    ----------
    model : nn.Module
    layer : nn.Linear or nn.Conv2d
        The output layer, from :func:`output_layer`.

    Yields
    ------
    callable
        Inputs (n, ...) on the model's device to logits (n, classes), averaged over positions.
    """
    seen: list[Tensor] = []
    model = unwrapped(model)
    # A copy: whatever masks the outputs may do so in place.
    handle = layer.register_forward_hook(lambda module, inputs, outputs: seen.append(outputs.clone()))

    def outputs_of(inputs: Tensor) -> Tensor:
        seen.clear()
        model(model_inputs(model, inputs))
        return one_row_a_sample(seen[-1], layer).float()

    try:
        yield outputs_of
    finally:
        handle.remove()


def model_outputs(model: nn.Module, samples: SampleSet, layer: OutputLayer) -> tuple[Tensor, Tensor, Tensor]:
    """What a model says of every sample, what its output layer says, and what that layer reads; in one pass.

    Parameters
    ----------
    model : nn.Module
    samples : SampleSet
    layer : nn.Linear or nn.Conv2d
        The output layer, from :func:`output_layer`.

    Returns
    -------
    tuple of three Tensor, float32, on the CPU
        Logits of the model (n, classes), outputs of the layer (n, classes) and inputs of the layer (n, features), the
        latter two averaged over positions if there are several.
    """
    seen: list[tuple[Tensor, Tensor]] = []
    model = unwrapped(model)
    # A copy of the outputs: whatever masks them may do so in place.
    handle = layer.register_forward_hook(lambda module, inputs, outputs: seen.append((inputs[0], outputs.clone())))
    device, read = device_of(model), samples.evaluated()
    parts: list[tuple[Tensor, ...]] = []
    try:
        with evaluation_mode(model), torch.inference_mode():
            for inputs, _ in read.batches(batch_slices(read, device)):
                seen.clear()
                served = model(model_inputs(model, inputs.to(device, memory_format=memory_layout(model))))
                of_layer = (one_row_a_sample(value, layer) for value in reversed(seen[-1]))
                parts.append(tuple(value.float().cpu().clone() for value in (served, *of_layer)))
    finally:
        handle.remove()
    served, raw, features = (torch.cat(part) for part in zip(*parts, strict=True))
    return served, raw, features


def penultimate_features(model: nn.Module, samples: SampleSet, layer: OutputLayer) -> Tensor:
    """The inputs of the output layer for every sample, averaged over positions if there are several.

    Parameters
    ----------
    model : nn.Module
    samples : SampleSet
    layer : nn.Linear or nn.Conv2d
        The output layer, from :func:`output_layer`.

    Returns
    -------
    Tensor of shape (n, features), float32, on the CPU

    Raises
    ------
    InvalidModelError
        If a feature is not a finite number.
    """
    seen: list[Tensor] = []
    model = unwrapped(model)
    handle = layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    device, read = device_of(model), samples.evaluated()
    parts: list[Tensor] = []
    try:
        with evaluation_mode(model), torch.inference_mode():
            for inputs, _ in read.batches(batch_slices(read, device)):
                seen.clear()
                model(model_inputs(model, inputs.to(device, memory_format=memory_layout(model))))
                parts.append(one_row_a_sample(seen[-1], layer).float().cpu())
    finally:
        handle.remove()
    features = torch.cat(parts)
    if not torch.isfinite(features).all():
        raise InvalidModelError(f"{type(model).__name__}: features before the output layer are not finite numbers")
    return features
