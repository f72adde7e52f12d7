"""The layers of a model in the order of their calls, for models whose computation cannot be traced as a graph."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from fed_unlearn.logits import evaluation_mode
from fed_unlearn.methods.parts.tracing import is_whole


def called_layers(model: nn.Module, inputs: Tensor) -> list[tuple[str, bool]]:
    """The layers that a call of a model goes through, each once, at its first call.

    Parameters
    ----------
    model : nn.Module
        The model. It stays as it is.
    inputs : Tensor of shape (n, ...)
        Inputs to pass through the model.

    Returns
    -------
    list of (str, bool)
        Name of the layer, and whether it has a weight of two or more dimensions. A module of torch's own is one layer.
        The parameters that other modules hold themselves are listed singly, when the module is called.
    """
    calls: dict[str, bool] = {}

    def note(name: str, module: nn.Module) -> None:
        if is_whole(module):
            calls.setdefault(name, any(part.ndim > 1 for part in module.parameters()))
            return
        for own, parameter in module.named_parameters(prefix=name, recurse=False):
            calls.setdefault(own, parameter.ndim > 1 and bool(name))

    handles = [
        module.register_forward_pre_hook(lambda module, _, name=name: note(name, module))
        for name, module in _layers(model)
    ]
    try:
        with evaluation_mode(model), torch.no_grad():
            model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return list(calls.items())


def _layers(model: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Modules that hold parameters, outermost first; nothing inside a module of torch's own."""
    if any(True for _ in model.parameters()):
        yield name, model
        if not is_whole(model):
            for child, module in model.named_children():
                yield from _layers(module, f"{name}.{child}" if name else child)
