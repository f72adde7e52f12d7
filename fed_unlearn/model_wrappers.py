"""Wrappers around a model: torch.compile's, DataParallel's and DistributedDataParallel's."""

from __future__ import annotations

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from fed_unlearn.wrapped_names import COMPILED


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside all wrappers. The model itself if it has none."""
    while True:
        if isinstance(model, DataParallel | DistributedDataParallel):
            model = model.module
        elif COMPILED in model._modules:
            model = model.get_submodule(COMPILED)
        else:
            return model
