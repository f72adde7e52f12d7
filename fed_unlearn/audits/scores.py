"""Scores of classes that no constant on an output hides: log-odds without the class's own bias, before any mask."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn
from torch.nn import functional

from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidModelError
from fed_unlearn.logits import predict_logits
from fed_unlearn.methods.parts.heads import OutputLayer, find_head, one_row_a_sample
from fed_unlearn.model_wrappers import unwrapped

PASSES_TO_FIND = 2
"""Number of times that one sample is passed through the model to find the output layer."""

_ROWS_AT_ONCE = 4096  # in double precision

logger = logging.getLogger("fed_unlearn.audits")


def class_scores(logits: Tensor, without_bias: Tensor | None = None) -> Tensor:
    """Log-odds of each class against all others, without the class's own bias.

    Parameters
    ----------
    logits : Tensor of shape (n, classes)
        Logits of the output layer.
    without_bias : Tensor of shape (n, classes), optional
        Logits without the layer's bias; ``logits`` where the layer has none.

    Returns
    -------
    Tensor of shape (n, classes), float32
        Score of each class. That of class c is ``without_bias[:, c]`` minus the log-sum-exp of all logits but that of
        c.
    """
    if not len(logits):
        return logits.float()
    own = logits if without_bias is None else without_bias
    rows = zip(logits.split(_ROWS_AT_ONCE), own.split(_ROWS_AT_ONCE), strict=True)
    return torch.cat([_scores(some.double(), theirs.double()).float() for some, theirs in rows])


def layer_scores(outputs: Tensor, inputs: Tensor, layer: OutputLayer) -> Tensor:
    """The scores of an output layer.

    Parameters
    ----------
    outputs : Tensor of shape (n, classes)
        Outputs of the layer, averaged over positions if there are several.
    inputs : Tensor of shape (n, features)
        Inputs of the layer, averaged likewise.
    layer : nn.Linear or nn.Conv2d
        The output layer, from :func:`fed_unlearn.methods.parts.heads.find_head`.

    Returns
    -------
    Tensor of shape (n, classes), float32
    """
    if layer.bias is None:
        return class_scores(outputs)
    if _is_plain(layer):
        # Outputs minus the bias would lose digits: a mask of -10000 rounds them to a thousandth.
        weight = layer.weight.detach().flatten(1).to(inputs)
        return class_scores(outputs, functional.linear(inputs, weight))
    return class_scores(outputs, outputs.double() - layer.bias.detach().to(outputs.device).double())


def scored_logits(model: nn.Module, samples: SampleSet) -> tuple[Tensor, Tensor]:
    """Logits of every sample as :func:`~fed_unlearn.logits.predict_logits` gives them, and the scores; in one pass.

    The output layer is looked for anew, which costs :data:`PASSES_TO_FIND` more.

    Parameters
    ----------
    model : nn.Module
    samples : SampleSet

    Returns
    -------
    tuple of two Tensor of shape (n, classes), float32, on the CPU
    """
    return scored_by(output_layer_of(model, samples) if len(samples) else None, model, samples)


def scored_by(layer: OutputLayer | None, model: nn.Module, samples: SampleSet) -> tuple[Tensor, Tensor]:
    """As :func:`scored_logits`, by an output layer that is known; without one, the scores are those of the logits."""
    if layer is None or not len(samples):
        logits = predict_logits(model, samples)
        return logits, class_scores(logits)
    bare, last, read = unwrapped(model), list[tuple[Tensor, Tensor]](), list[Tensor]()
    count = 0

    def note(module: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
        last[:] = [(inputs[0], outputs.clone())]  # a copy: whatever masks the outputs may do so in place

    def score(module: nn.Module, inputs: object, outputs: object) -> None:
        nonlocal count
        features, raw = (one_row_a_sample(value, layer).float() for value in last.pop())
        found = layer_scores(raw, features, layer)
        if not read:
            read.append(torch.empty(len(samples), found.shape[1]))
        read[0][count : count + len(found)] = found
        count += len(found)

    handles = [layer.register_forward_hook(note), bare.register_forward_hook(score)]
    try:
        logits = predict_logits(bare, samples)
    finally:
        for handle in handles:
            handle.remove()
    return logits, read[0].clone()


def _scores(logits: Tensor, own: Tensor) -> Tensor:
    top = logits.argmax(1, keepdim=True)
    total = logits.logsumexp(1, keepdim=True)
    others = total + torch.log1p(-(logits - total).exp())  # exact but for the largest, whose share may round to 1
    return own - others.scatter(1, top, logits.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True))


def _is_plain(layer: OutputLayer) -> bool:
    """Whether the outputs are the weights times the inputs plus the bias, also after both are averaged."""
    if isinstance(layer, nn.Conv2d):
        whole = layer.stride == (1, 1) and layer.padding == (0, 0) and layer.groups == 1
        return whole and type(layer).forward is nn.Conv2d.forward
    return type(layer).forward is nn.Linear.forward


def output_layer_of(model: nn.Module, samples: SampleSet) -> OutputLayer | None:
    """The layer that makes a model's logits; None where it cannot be told. ``samples`` must not be empty."""
    try:
        return find_head("scores of classes", model, samples).layer
    except (InvalidModelError, RuntimeError) as error:  # a model of another kind may not be traceable at all
        logger.info("scores of classes come from the model's outputs: %s", error)
        return None
