"""Inputs as a model reads them: its memory layout and its floating-point type."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_READS_ANY_LAYOUT = "reads_any_layout"

HALF_TYPES = frozenset({torch.float16, torch.bfloat16})


def mark_any_layout(network: nn.Module) -> nn.Module:
    """Say of a network that it reads images in any memory layout, so that it gets the fastest one; return it.

    A network that calls ``view`` on its input reads contiguous images only. Nothing is known of users' models, so they
    get contiguous inputs.
    """
    vars(network)[_READS_ANY_LAYOUT] = True
    return network


def model_inputs(model: nn.Module, inputs: Tensor, *, pack: bool = True) -> Tensor:
    """The inputs in the memory layout and the floating-point type that a model reads.

    Parameters
    ----------
    model : nn.Module
        A network of :func:`mark_any_layout` gets images in channels-last layout. Every other one gets contiguous
        inputs. A model whose parameters are all of one half-precision type gets its inputs in this type.
    inputs : Tensor of shape (n, ...)
        Whole numbers, such as tokens, keep their type.
    pack : bool, default True
        If False, a network of :func:`mark_any_layout` gets its images in the layout that they have.

    Returns
    -------
    Tensor of the same shape
        The inputs themselves where nothing has to change. Gradients flow through.
    """
    inputs = laid_out(model, inputs, pack=pack)
    dtype = half_type(model) if inputs.is_floating_point() else None
    return inputs if dtype is None else inputs.to(dtype)


def laid_out(model: nn.Module, inputs: Tensor, *, pack: bool = True) -> Tensor:
    """The inputs in the memory layout that a model reads. The parameters are those of :func:`model_inputs`."""
    layout = memory_layout(model)
    return inputs.contiguous(memory_format=layout) if pack or layout == torch.contiguous_format else inputs


def memory_layout(model: nn.Module) -> torch.memory_format:
    """The memory layout in which a model's inputs are computed: channels last, or contiguous for users' models."""
    return torch.channels_last if getattr(model, _READS_ANY_LAYOUT, False) else torch.contiguous_format


def half_type(model: nn.Module) -> torch.dtype | None:
    """The half-precision type of all floating-point parameters of a model. None if another type is among them."""
    types = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    return types.pop() if len(types) == 1 and types <= HALF_TYPES else None
