"""The inputs and the raw outputs of a model's output layer, before anything else changes the outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeGuard

import torch
from torch import Tensor, nn

from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidModelError
from fed_unlearn.logits import batch_slices, device_of, evaluation_mode
from fed_unlearn.methods.parts.checks import class_count_of
from fed_unlearn.model_inputs import memory_layout, model_inputs

OutputLayer = nn.Linear | nn.Conv2d


def output_layer(audit: str, model: nn.Module, samples: SampleSet, name: str | None = None) -> OutputLayer:
    """The layer that gives the raw logits: the last linear layer or 1x1 convolution of a forward pass.

    Parameters
    ----------
    audit : str
        Name of the audit, for error messages.
    model : nn.Module
    samples : SampleSet
        At least one sample. The first is passed through the model.
    name : str, optional
        Name of the layer in ``model.named_modules()``, if it is another one.

    Returns
    -------
    nn.Linear or nn.Conv2d
        With one output a class.

    Raises
    ------
    InvalidModelError
        If there is no such layer, or it has not one output for each of the model's.
    """
    candidates = {path: module for path, module in model.named_modules() if _may_be_output(module)}
    passed: list[str] = []
    handles = [
        module.register_forward_pre_hook(lambda module, inputs, path=path: passed.append(path))
        for path, module in candidates.items()
    ]
    try:
        class_count = class_count_of(audit, model, samples)
    finally:
        for handle in handles:
            handle.remove()
    if name is not None and name not in passed:
        raise InvalidModelError(
            f"{audit}: head = {name!r} was given; expected one of the linear layers and 1x1 convolutions that"
            f" {type(model).__name__} goes through: {', '.join(dict.fromkeys(passed)) or 'it has none'}"
        )
    if not passed:
        raise InvalidModelError(
            f"{audit}: {type(model).__name__} goes through no nn.Linear and no 1x1 nn.Conv2d; one that puts out the"
            " logits was expected"
        )
    found = name if name is not None else passed[-1]
    layer = candidates[found]
    outputs = layer.weight.shape[0]
    if outputs != class_count:
        raise InvalidModelError(
            f"{audit}: layer {found!r} has {outputs} outputs and the model {class_count}; the layer that puts out the"
            " logits was expected: name it with 'head'"
        )
    return layer


@contextmanager
def raw_logits(model: nn.Module, layer: OutputLayer) -> Iterator[Callable[[Tensor], Tensor]]:
    """Yield a function from inputs to the output layer's own outputs, with gradients; later masks do not change them.

    Parameters
    ----------
    model : nn.Module
    layer : nn.Linear or nn.Conv2d
        From :func:`output_layer`.

    Yields
    ------
    callable
        Inputs (n, ...) on the model's device to logits (n, classes), averaged over positions.
    """
    seen: list[Tensor] = []
    # A copy: whatever masks the outputs may do so in place.
    handle = layer.register_forward_hook(lambda module, inputs, outputs: seen.append(outputs.clone()))

    def outputs_of(inputs: Tensor) -> Tensor:
        seen.clear()
        model(model_inputs(model, inputs))
        return _pooled(seen[-1], layer).float()

    try:
        yield outputs_of
    finally:
        handle.remove()


def penultimate_features(model: nn.Module, samples: SampleSet, layer: OutputLayer) -> Tensor:
    """The inputs of the output layer for every sample, averaged over positions if there are several.

    Parameters
    ----------
    model : nn.Module
    samples : SampleSet
    layer : nn.Linear or nn.Conv2d
        From :func:`output_layer`.

    Returns
    -------
    Tensor of shape (n, features), float32, on the CPU

    Raises
    ------
    InvalidModelError
        If a feature is not a finite number.
    """
    seen: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    device, read = device_of(model), samples.evaluated()
    parts: list[Tensor] = []
    try:
        with evaluation_mode(model), torch.inference_mode():
            for inputs, _ in read.batches(batch_slices(read, device)):
                seen.clear()
                model(model_inputs(model, inputs.to(device, memory_format=memory_layout(model))))
                parts.append(_pooled(seen[-1], layer).float().cpu())
    finally:
        handle.remove()
    features = torch.cat(parts)
    if not torch.isfinite(features).all():
        raise InvalidModelError(f"{type(model).__name__}: features before the output layer are not finite numbers")
    return features


def _may_be_output(module: nn.Module) -> TypeGuard[OutputLayer]:
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1))


def _pooled(values: Tensor, layer: OutputLayer) -> Tensor:
    """One row a sample: a convolution's positions stand behind the channels, those of a linear layer before them."""
    if isinstance(layer, nn.Conv2d):
        return values.flatten(2).mean(2)
    return values.flatten(1, -2).mean(1) if values.ndim > 2 else values
