"""A training step on one sample, of which BatchNorm knows no variance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fed_unlearn.errors import InvalidModelError

_BatchHook = Callable[[nn.Module, tuple[Tensor, ...]], None]


@contextmanager
def single_sample(model: nn.Module, *, is_only: bool) -> Iterator[None]:
    """Let BatchNorm layers that get one value a channel normalise by their running statistics, which stay as they are.

    Such a value has no variance. Layers that get several values of the sample, as in a convolution's maps, train as
    ever.

    Parameters
    ----------
    model : nn.Module
        The model, in training mode. Forward passes inside are of one sample.
    is_only : bool
        Whether the client has no other sample. If not, every batch has one sample, and the statistics would never
        follow them.

    Raises
    ------
    InvalidModelError
        In a forward pass, if there is such a layer and the client has other samples, or the layer has no running
        statistics.
    """
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.training:
            handles.append(module.register_forward_pre_hook(_frozen_if_single(name, is_only)))
            handles.append(module.register_forward_hook(_thawed))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _frozen_if_single(name: str, is_only: bool) -> _BatchHook:
    def freeze(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0]
        if values.numel() > values.shape[1]:
            return
        if not is_only or module.running_mean is None:
            raise InvalidModelError(
                f"training: layer {name!r} ({type(module).__name__}) normalises over the batch, and a batch has one"
                " sample; expected at least two: raise the batch size, give the client more samples, or use GroupNorm"
            )
        module.eval()

    return freeze


def _thawed(module: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
    module.train()
