"""Logits of models: computed in large batches without gradients, and compared between classes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn

from fed_unlearn.data.domain import InputDomain
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.model_inputs import memory_layout, model_inputs

_LARGEST_BATCH, _SMALLEST_BATCH = 512, 16
_PLACES_ON_CPU = 2**17  # activations stay in the cache; a batch of 512 CIFAR images takes three times as long
_PLACES_ON_ACCELERATOR = 2**22
_MOST_BYTES = 2**26  # of the inputs of a batch, whatever the size of one


def batch_slices(samples: SampleSet, device: torch.device) -> Iterator[slice]:
    """Cut samples into batches whose size suits the device and memory, so that large inputs get small batches.

    Parameters
    ----------
    samples : SampleSet
        The samples to cut.
    device : torch.device
        The device on which the batches are computed.
    """
    if len(samples) == 0:
        return iter(())
    size = _batch_size(samples.input_shape, samples.domain, device)
    return (slice(start, start + size) for start in range(0, len(samples), size))


def _batch_size(shape: tuple[int, ...], domain: InputDomain, device: torch.device) -> int:
    """Samples in a batch: by the places of an input, which are what activations grow with, and by its bytes."""
    places = max(1, math.prod(shape[1:] if len(shape) > 1 else shape))
    most_places = _PLACES_ON_CPU if device.type == "cpu" else _PLACES_ON_ACCELERATOR
    largest = _LARGEST_BATCH if device.type == "cpu" else 8 * _LARGEST_BATCH
    size = max(_SMALLEST_BATCH, min(largest, most_places // places))
    bytes_of_one = max(1, math.prod(shape)) * (8 if domain.kind == "tokens" else 4)
    return max(1, min(size, _MOST_BYTES // bytes_of_one))


def device_of(model: nn.Module) -> torch.device:
    """Device of the model's first parameter or buffer. The CPU if it has neither."""
    for tensor in chain(model.parameters(), model.buffers()):
        return tensor.device
    return torch.device("cpu")


def sent(indices: Tensor, device: torch.device) -> Tensor:
    """Copy indices from the CPU to a device. The CPU does not wait for the copy."""
    return indices.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else indices.to(device)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode; give every module its own mode back at the end."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def predict_logits(model: nn.Module, samples: SampleSet) -> Tensor:
    """Logits of every sample, computed in evaluation mode, from inputs without random augmentation.

    Returns
    -------
    Tensor of shape (n, classes), float32, on the CPU
    """
    if len(samples) == 0:
        return torch.empty(0, 0)
    device, read = device_of(model), samples.evaluated()
    logits = torch.empty(0, 0)
    with evaluation_mode(model), torch.inference_mode():
        plan = list(batch_slices(read, device))
        # One tensor for all: a small one that outlives each large batch would keep the memory of all from being reused.
        for places, (inputs, _) in zip(plan, read.batches(plan), strict=True):
            answers = model(model_inputs(model, inputs.to(device, memory_format=memory_layout(model)))).float()
            if not logits.numel():
                logits = answers.new_empty(len(read), *answers.shape[1:])
            logits[places] = answers
    return logits.cpu().clone()  # a tensor of inference mode could take part in no gradient


def confidence(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-odds of each sample's own class: its logit minus the log-sum-exp of the others.

    It is a monotone transform of the cross-entropy that has no floor at zero (Carlini et al., 2022, section IV).

    Parameters
    ----------
    logits : Tensor of shape (n, classes)
        Outputs of a model.
    labels : Tensor of shape (n,), int64
        Each sample's own class, as an index.

    Returns
    -------
    Tensor of shape (n,)
    """
    own = labels.unsqueeze(1)
    others = logits.scatter(1, own, -torch.inf).logsumexp(dim=1)
    return logits.gather(1, own).squeeze(1) - others


def logit_gaps(logits: Tensor, allowed: Tensor) -> Tensor:
    """Largest allowed logit minus the largest other one.

    Parameters
    ----------
    logits : Tensor of shape (n, classes)
        Outputs of a model.
    allowed : Tensor of shape (n, classes), bool
        Whether a class is allowed for a sample. Each row has at least one allowed class and one that is not.

    Returns
    -------
    Tensor of shape (n,)
        Gap of each sample, above 0 if the predicted class is an allowed one.
    """
    best = logits.masked_fill(~allowed, -torch.inf).amax(dim=1)
    return best - logits.masked_fill(allowed, -torch.inf).amax(dim=1)


def log_odds(logits: Tensor, allowed: Tensor) -> Tensor:
    """Log-odds of the allowed classes together against the others. Parameters as in :func:`logit_gaps`.

    Returns
    -------
    Tensor of shape (n,)
    """
    for_allowed, for_others = (logits.masked_fill(mask, -torch.inf).logsumexp(dim=1) for mask in (~allowed, allowed))
    return for_allowed - for_others
