"""A repair of Avalanche's Synaptic Intelligence on the CPU.

Avalanche 0.6 stores views of weights and gradients where the method needs copies. On a CPU every path integral, every
importance and the whole penalty are then zero. A GPU copies the values when it hands them over.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from avalanche.training.plugins import SynapticIntelligencePlugin
from avalanche.training.utils import ParamData
from torch import nn


def mend_synaptic_intelligence() -> None:
    """Make Synaptic Intelligence copy weights and gradients, for all strategies of this process.

    Call this before the first training. The unlearning plug-in does not: it changes nothing of a strategy without a
    request. Calling it twice changes nothing, and neither does calling it with a version of Avalanche that copies by
    itself.
    """
    if _stores_views(SynapticIntelligencePlugin.extract_weights):
        SynapticIntelligencePlugin.extract_weights = staticmethod(torch.no_grad()(_copy_weights))
        SynapticIntelligencePlugin.extract_grad = staticmethod(torch.no_grad()(_copy_gradients))


def _copy_weights(model: nn.Module, target: dict[str, ParamData], excluded_parameters: set[str]) -> None:
    for name, parameter in SynapticIntelligencePlugin.allowed_parameters(model, excluded_parameters):
        target[name].data = parameter.detach().cpu().flatten().clone()


def _copy_gradients(model: nn.Module, target: dict[str, ParamData], excluded_parameters: set[str]) -> None:
    for name, parameter in SynapticIntelligencePlugin.allowed_parameters(model, excluded_parameters):
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        target[name].data = gradient.detach().cpu().flatten().clone()


def _stores_views(extract: Callable[..., None]) -> bool:
    probe = nn.Linear(1, 1, bias=False, device="meta").to_empty(device="cpu")
    target = {"weight": ParamData("weight", (1,))}
    extract(probe, target, set())
    return bool(target["weight"].data.data_ptr() == probe.weight.data_ptr())
