"""Weights of layers drawn anew, as when the model was built."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from fed_unlearn.methods.parts.blocks import module_or_none
from fed_unlearn.seeding import isolated_random

_RESETS = ("reset_parameters", "_reset_parameters")


def draw_fresh(model: nn.Module, layers: Iterable[str], generator: torch.Generator) -> list[nn.Parameter]:
    """Draw the weights of some layers anew, in place, and return them.

    Modules are reset by their own ``reset_parameters``, BatchNorm with its statistics. A parameter that none of these
    changes, such as one that no module of torch's own holds, is drawn from the normal distribution of its mean and
    standard deviation: one that is constant stays. So does whatever the model has frozen, with the statistics of such
    a BatchNorm.

    Parameters
    ----------
    model : nn.Module
    layers : iterable of str
        Names of modules, with all that is in them, and of single parameters.
    generator : torch.Generator
        Gives the seed of all draws, on the CPU. Global generators end as they began.

    Returns
    -------
    list of nn.Parameter
        The drawn parameters that may be trained, each once.
    """
    held = {name: module_or_none(model, name) for name in layers}
    modules = dict.fromkeys(inner for module in held.values() if module is not None for inner in module.modules())
    parameters = [parameter for module in modules for parameter in module.parameters(recurse=False)]
    parameters += [model.get_parameter(name) for name, module in held.items() if module is None]
    trained = [parameter for parameter in dict.fromkeys(parameters) if parameter.requires_grad]
    before = {parameter: parameter.detach().clone() for parameter in parameters}
    with isolated_random(int(torch.randint(2**62, (), generator=generator))), torch.no_grad():
        for module in modules:
            if any(parameter.requires_grad for parameter in module.parameters(recurse=False)) or _is_open(module):
                _reset(module)
        for parameter, old in before.items():
            if not parameter.requires_grad:
                parameter.copy_(old)
            elif torch.equal(parameter, old) and bool((old != old.flatten()[:1]).any()):
                spread = old.float().std(correction=0)
                parameter.copy_(old.float().mean() + spread * torch.randn_like(old, dtype=torch.float32))
    return trained


def _is_open(module: nn.Module) -> bool:
    """Whether a module has statistics of batches and no parameter of its own that could be frozen."""
    keeps = isinstance(module, nn.modules.batchnorm._NormBase) and module.track_running_stats
    return keeps and not any(True for _ in module.parameters(recurse=False))


def _reset(module: nn.Module) -> None:
    for name in _RESETS:
        if callable(reset := getattr(module, name, None)):
            reset()
            return
