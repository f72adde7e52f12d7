"""Forward passes in large batches, without gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fed_unlearn.data.images import ImageSet

INFERENCE_BATCH_SIZE = 512


def device_of(model: nn.Module) -> torch.device:
    """Device of the model's first parameter or buffer; the CPU where it has none."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Normalisation statistics frozen and dropout off inside; every module's own mode back afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def predict_logits(model: nn.Module, samples: ImageSet, batch_size: int = INFERENCE_BATCH_SIZE) -> Tensor:
    """Logits of every sample.

    Returns
    -------
    Tensor of shape (n, classes), float32, on the CPU
    """
    if len(samples) == 0:
        return torch.empty(0, 0)
    device = device_of(model)
    with evaluation_mode(model), torch.inference_mode():
        logits = [
            model(samples.batch(slice(start, start + batch_size))[0].to(device)).float().cpu()
            for start in range(0, len(samples), batch_size)
        ]
    return torch.cat(logits)
