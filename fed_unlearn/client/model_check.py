"""Whether a model answers as unlearning, audits and repair need it: with the logits of the classes."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Collection

import torch
from torch import Tensor, nn

from fed_unlearn.data.images import ClientData
from fed_unlearn.errors import UnsuitableModelError
from fed_unlearn.logits import device_of, evaluation_mode
from fed_unlearn.model_inputs import model_inputs
from fed_unlearn.text import quoted

logger = logging.getLogger("fed_unlearn.client")


def check_logits(model: nn.Module, data: ClientData) -> None:
    """Raise if a model does not answer with a logit of each class. One sample of the client's is read.

    Parameters
    ----------
    model : nn.Module
        The model. It is not changed.
    data : ClientData
        A client without samples passes.

    Raises
    ------
    UnsuitableModelError
        The text has no value of a sample.
    """
    samples = next((part for part in (data.train, data.validation, data.test) if len(part)), None)
    if samples is None:
        return
    inputs, _ = samples.evaluated().batch(torch.tensor([0]))
    try:
        with evaluation_mode(model), torch.inference_mode():
            answer = model(model_inputs(model, inputs.to(device_of(model))))
    except Exception as error:
        logger.exception("the model fails on one of the client's samples")
        raise UnsuitableModelError(
            f"the model fails with a {type(error).__name__} on an input of shape {tuple(inputs.shape)} and"
            f" {inputs.dtype}; expected one that takes the client's samples; the client's own log has the details"
        ) from None
    if isinstance(answer, Tensor) and answer.ndim == 2 and len(answer) == 1 and answer.is_floating_point():
        if answer.shape[1] >= data.class_count:
            return
        problem = f"{answer.shape[1]} outputs for {data.class_count} classes"
    elif isinstance(answer, Tensor):
        problem = f"a tensor of shape {tuple(answer.shape)} and {answer.dtype} for one sample"
    else:
        problem = f"a {type(answer).__name__}"
        if isinstance(getattr(answer, "logits", None), Tensor):
            problem += ", whose .logits it may be"
    raise UnsuitableModelError(
        f"the model answers with {problem}; expected logits, floats of shape (n, {data.class_count}): wrap the model in"
        " a module whose forward gives them"
    )


def check_columns(model: nn.Module, others: Collection[str]) -> None:
    """Raise if a model takes columns of a batch beside the inputs, such as an attention mask.

    Unlearning and audits call a model with its inputs alone. They would judge another model than the app's training
    makes.

    Parameters
    ----------
    model : nn.Module
    others : collection of str
        Names of the columns beside inputs and labels.

    Raises
    ------
    UnsuitableModelError
        If it does.
    """
    taken = sorted(inspect.signature(model.forward).parameters.keys() & set(others))
    if taken:
        raise UnsuitableModelError(
            f"the model takes {', '.join(map(quoted, taken))} beside its inputs, and unlearning and audits give it the"
            " inputs alone; wrap it in a module that makes them of its inputs, such as a mask of the padding tokens"
        )
