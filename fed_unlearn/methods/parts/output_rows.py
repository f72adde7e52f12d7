"""The rows of a model's output layer among its arrays, where they are plain: found in a call of the model."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidModelError
from fed_unlearn.logits import device_of, evaluation_mode
from fed_unlearn.methods.parts.heads import OutputLayer, find_head, one_row_a_sample
from fed_unlearn.model_inputs import model_inputs
from fed_unlearn.model_wrappers import unwrapped
from fed_unlearn.output_rows import OutputRows

logger = logging.getLogger("fed_unlearn.methods")


def plain_rows(model: nn.Module, samples: SampleSet, arrays: Mapping[str, Tensor]) -> OutputRows | None:
    """The arrays that are the rows of a model's output layer; None where the layer has no plain rows.

    It has plain rows if the logits are a linear layer's or a 1x1 convolution's own, or come from them in the same
    order, and if its weights are parameters that are trained, that stand under one name, and that travel.

    Parameters
    ----------
    model : nn.Module
        The model. It stays as it is.
    samples : SampleSet
        The first is passed through the model.
    arrays : mapping of str to Tensor
        The arrays of the model by name, as its state has them.
    """
    try:
        head = find_head("output rows", model, samples)
    except (InvalidModelError, RuntimeError) as error:  # a model of another kind may not be traceable at all
        logger.info("the output layer has no plain rows: %s", error)
        return None
    layer = head.layer
    if type(layer).forward not in (nn.Linear.forward, nn.Conv2d.forward) or getattr(layer, "groups", 1) != 1:
        return None
    if not head.is_last and not _keeps_order(model, samples, layer):
        return None
    weight = _name_of(layer._parameters.get("weight"), arrays)
    if weight is None:
        return None
    if layer.bias is None:
        return OutputRows(weight)
    bias = _name_of(layer._parameters.get("bias"), arrays)
    return None if bias is None else OutputRows(weight, bias)


def _name_of(parameter: Tensor | None, arrays: Mapping[str, Tensor]) -> str | None:
    """The one name under which a parameter that is trained travels; None where there is none, or several."""
    if parameter is None or not parameter.requires_grad:
        return None
    names = [
        name
        for name, value in arrays.items()
        if value.shape == parameter.shape and value.data_ptr() == parameter.data_ptr()
    ]
    return names[0] if len(names) == 1 else None


def _keeps_order(model: nn.Module, samples: SampleSet, layer: OutputLayer) -> bool:
    """Whether the logits of the first sample are in the order of the layer's outputs."""
    outputs: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, inputs, given: outputs.append(given.clone()))
    bare = unwrapped(model)
    inputs, _ = samples.evaluated().subset(torch.tensor([0], device=samples.labels.device)).batch()
    try:
        with evaluation_mode(bare), torch.inference_mode():
            logits = bare(model_inputs(bare, inputs.to(device_of(bare))))
    finally:
        handle.remove()
    return torch.equal(one_row_a_sample(outputs[-1], layer).argsort(stable=True), logits.argsort(stable=True))
