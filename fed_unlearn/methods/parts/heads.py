"""The layer that gives a model's logits, found in a traced call and not by the order of registration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeGuard

import torch
from torch import Tensor, nn

from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidModelError
from fed_unlearn.logits import device_of, evaluation_mode
from fed_unlearn.methods.parts.checks import class_count_of
from fed_unlearn.model_inputs import model_inputs
from fed_unlearn.model_wrappers import unwrapped
from fed_unlearn.wrapped_names import bare_name

OutputLayer = nn.Linear | nn.Conv2d

MOST_COMPARED = 256  # most logits whose gradients are compared; a model may have many thousand


@dataclass(frozen=True)
class Head:
    """The layer that gives the logits.

    Attributes
    ----------
    name : str
        Name in ``model.named_modules()``, without wrappers such as DataParallel's.
    layer : nn.Linear or nn.Conv2d
        The layer, which has one output a class. A convolution is 1x1, and its outputs are averaged over positions
        later.
    is_last : bool
        Whether its outputs are the model's, at most in another shape. If not, the model changes them further: by a
        mask, a scale, a conversion.
    """

    name: str
    layer: OutputLayer
    is_last: bool


@dataclass(frozen=True)
class _Call:
    """One call of a layer: its outputs, from which gradients are taken, and the copy with which the model goes on."""

    name: str
    outputs: Tensor
    used: Tensor


def find_head(user: str, model: nn.Module, samples: SampleSet, name: str | None = None) -> Head:
    """The linear layer or 1x1 convolution whose outputs become the logits in a call of the model.

    No other layer may stand between, and each output must raise its own logit above the others.

    Parameters
    ----------
    user : str
        Name of the method or audit, for error messages.
    model : nn.Module
        The model. It stays as it is.
    samples : SampleSet
        Samples, at least one. The first is passed through the model.
    name : str, optional
        Name of the layer in ``model.named_modules()``, where the model has several.

    Raises
    ------
    InvalidModelError
        If there is no such layer, or several are, or it has not one output for each of the model's.
    """
    model = unwrapped(model)
    class_count = class_count_of(user, model, samples)
    layers = {path: module for path, module in model.named_modules() if _may_be_head(module)}
    logits, calls = _traced(model, samples, layers)
    kind = type(model).__name__
    if not calls:
        raise InvalidModelError(
            f"{user}: {kind} goes through no nn.Linear and no 1x1 nn.Conv2d; one that puts out the logits was expected:"
            " use a method or audit that needs no such layer"
        )
    call = _feeding(user, kind, logits, calls, class_count) if name is None else _named(user, kind, calls, name)
    layer = layers[call.name]
    if len(layer.weight) != class_count:
        raise InvalidModelError(
            f"{user}: layer {call.name!r} has {len(layer.weight)} outputs and the model {class_count}; the layer that"
            " puts out the logits was expected: name it with 'head', or use a method or audit that needs no such layer"
        )
    is_last = _shares_memory(call.used, logits) and torch.equal(call.outputs.flatten(), logits.flatten())
    return Head(call.name, layer, is_last)


def one_row_a_sample(values: Tensor, layer: OutputLayer) -> Tensor:
    """Inputs or outputs of a layer, averaged over positions: behind the channels of a convolution, else before them."""
    if isinstance(layer, nn.Conv2d):
        return values.flatten(2).mean(2)
    return values.flatten(1, -2).mean(1) if values.ndim > 2 else values


def _may_be_head(module: nn.Module) -> TypeGuard[OutputLayer]:
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1))


def _traced(model: nn.Module, samples: SampleSet, layers: dict[str, OutputLayer]) -> tuple[Tensor, list[_Call]]:
    """Logits of the first sample, and the calls of the layers, in order.

    The graph is cut at every call, so that only the calls that no other layer follows have a gradient.
    """
    calls: list[_Call] = []
    inputs, _ = samples.evaluated().subset(torch.tensor([0], device=samples.labels.device)).batch()
    with _recorded(layers, calls), evaluation_mode(model), torch.enable_grad():
        logits: Tensor = model(model_inputs(model, inputs.to(device_of(model))))
    return logits, calls


@contextmanager
def _recorded(layers: dict[str, OutputLayer], calls: list[_Call]) -> Iterator[None]:
    def note(name: str, outputs: Tensor) -> Tensor:
        leaf = outputs.detach().requires_grad_()
        used = leaf.clone()  # the model may change it in place
        calls.append(_Call(name, leaf, used))
        return used

    handles = [
        layer.register_forward_hook(lambda module, inputs, outputs, path=path: note(path, outputs))
        for path, layer in layers.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _named(user: str, kind: str, calls: Sequence[_Call], name: str) -> _Call:
    """The last call of the layer that a user named, with or without wrappers."""
    for call in reversed(calls):
        if call.name in (name, bare_name(name)):
            return call
    raise InvalidModelError(
        f"{user}: head = {name!r} was given; expected one of the linear layers and 1x1 convolutions that"
        f" {kind} goes through: {_listed(calls)}"
    )


def _feeding(user: str, kind: str, logits: Tensor, calls: Sequence[_Call], class_count: int) -> _Call:
    """The call whose outputs become the logits, each its own."""
    total = logits.float().sum()
    reached: Sequence[Tensor | None] = [None] * len(calls)
    if total.requires_grad:
        reached = torch.autograd.grad(total, [call.outputs for call in calls], retain_graph=True, allow_unused=True)
    last = [call for call, gradient in zip(calls, reached, strict=True) if gradient is not None]
    if not last:
        raise InvalidModelError(
            f"{user}: no gradient leads from the logits of {kind} to a linear layer or 1x1 convolution: name the layer"
            f" that puts them out with 'head', one of {_listed(calls)}"
        )
    wide = [call for call in last if _width(call) == class_count]
    fitting = [call for call in wide if _raises_its_own(logits, call.outputs)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise InvalidModelError(
            f"{user}: layers {_listed(fitting)} of {kind} put out the logits together, and one was expected: name it"
            " with 'head', or use a method or audit that needs no such layer"
        )
    if wide:
        raise InvalidModelError(
            f"{user}: {kind} mixes the outputs of layer {wide[-1].name!r} further, so that they are not its logits;"
            " expected a linear layer or 1x1 convolution that puts out the logits: use a method or audit that needs no"
            " such layer"
        )
    return last[-1]


def _width(call: _Call) -> int:
    return call.outputs.shape[1] if call.outputs.ndim == 4 else call.outputs.shape[-1]


def _raises_its_own(logits: Tensor, outputs: Tensor) -> bool:
    """Whether no output raises another logit more than its own. Outputs that a mask hides raise none."""
    rows = []
    for logit in logits[0, :MOST_COMPARED]:
        if not logit.requires_grad:
            return False
        (gradient,) = torch.autograd.grad(logit, outputs, retain_graph=True)
        gradient = gradient.float()
        rows.append(gradient.flatten(2).sum((0, 2)) if outputs.ndim == 4 else gradient.flatten(0, -2).sum(0))
    slopes = torch.stack(rows)[:, : len(rows)].nan_to_num()  # of the logit of each row by the output of each column
    return bool((slopes.diagonal() >= slopes.amax(dim=0)).all())


def _shares_memory(first: Tensor, second: Tensor) -> bool:
    return first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()


def _listed(calls: Sequence[_Call]) -> str:
    return ", ".join(dict.fromkeys(call.name for call in calls))
