"""A part of a model that training leaves as it is."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fed_unlearn.errors import UnsuitableModelError
from fed_unlearn.wrapped_names import bare_name


@contextmanager
def frozen_part(model: nn.Module, names: Collection[str]) -> Iterator[None]:
    """Keep some of a model's parameters and buffers as they are, whatever trains the model in the meantime.

    The parameters require no gradient, so that no backward pass goes through what lies below them. Normalisation layers
    whose statistics are frozen normalise by these in training mode too. At the end all of it has its bytes from before.

    Parameters
    ----------
    model : nn.Module
    names : collection of str
        Names of entries of the model's state dictionary, without the prefixes of wrappers. Where it is empty, nothing
        is frozen.

    Raises
    ------
    UnsuitableModelError
        If no parameter that requires a gradient is left.
    """
    if not names:
        yield
        return
    chosen = {name: tensor for name, tensor in _state_of(model).items() if bare_name(name) in names}
    parameters = [value for value in chosen.values() if isinstance(value, nn.Parameter) and value.requires_grad]
    values = {name: tensor.detach().clone() for name, tensor in chosen.items()}
    for parameter in parameters:
        parameter.requires_grad_(False)
    handles = [module.register_forward_pre_hook(_evaluates) for module in _with_frozen_statistics(model, chosen)]
    try:
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise UnsuitableModelError("all of the model is frozen; expected a parameter that is left to be trained")
        yield
    finally:
        for handle in handles:
            handle.remove()
        with torch.no_grad():
            for name, tensor in chosen.items():
                tensor.copy_(values[name])
        for parameter in parameters:
            parameter.requires_grad_(True)


def _state_of(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _with_frozen_statistics(model: nn.Module, chosen: Collection[str]) -> list[nn.Module]:
    """The modules that have buffers, all of which are frozen."""
    found = []
    for path, module in model.named_modules():
        buffers = [f"{path}.{name}" if path else name for name, _ in module.named_buffers(recurse=False)]
        if buffers and set(buffers) <= set(chosen):
            found.append(module)
    return found


def _evaluates(module: nn.Module, inputs: object) -> None:
    module.eval()
