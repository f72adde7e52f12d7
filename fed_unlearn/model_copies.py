"""Copies of models, also of those that hold tensors of their last forward pass."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from fed_unlearn.errors import InvalidModelError


def copied(model: nn.Module) -> nn.Module:
    """A deep copy of a model.

    Tensors of a forward pass that a module keeps as attributes are copied without their graph. Older weight
    normalisation (``torch.nn.utils.weight_norm``) keeps the weight so, and makes it anew in every pass.

    Raises
    ------
    InvalidModelError
        If a part of the model cannot be copied.
    """
    kept = [value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    memo = {id(value): value.detach().clone() for value in kept if not value.is_leaf}
    try:
        return copy.deepcopy(model, memo)
    except (RuntimeError, TypeError) as error:
        raise InvalidModelError(
            f"{type(model).__name__} cannot be copied ({str(error).splitlines()[0][:200]}); expected a model that"
            " copy.deepcopy copies: keep no tensor of a forward pass, lock or generator in its attributes"
        ) from error
