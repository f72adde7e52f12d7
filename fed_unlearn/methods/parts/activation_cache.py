"""Activations of samples at one point of a model, computed once and kept in memory or in a temporary file."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.logits import batch_slices
from fed_unlearn.model_inputs import memory_layout, model_inputs

_LEFT_FREE = 2  # a file takes at most one in so many of the free bytes of its disk


@contextmanager
def kept_activations(
    model: nn.Module, lower: nn.Module, samples: SampleSet, device: torch.device, most_bytes: int
) -> Iterator[Tensor | None]:
    """Compute what a part of a model puts out for every sample, in evaluation mode and without random augmentation.

    Parameters
    ----------
    model : nn.Module
        The model, which says how inputs are laid out.
    lower : nn.Module
        The part, in evaluation mode.
    samples : SampleSet
    device : torch.device
        Device of the model.
    most_bytes : int
        Activations of more bytes are kept in a temporary file, which is gone at the end.

    Yields
    ------
    Tensor of shape (n, ...) or None
        The activations, on the device or in the file. None if they need more than half of the free bytes of the disk.
    """
    shape, dtype = activation_shape(model, lower, samples, device)
    size = math.prod(shape) * dtype.itemsize
    if size <= most_bytes:
        yield fill_activations(torch.empty(shape, dtype=dtype, device=device), model, lower, samples, device)
        return
    with tempfile.TemporaryDirectory(prefix="fed-unlearn-", ignore_cleanup_errors=True) as folder:
        if shutil.disk_usage(folder).free < _LEFT_FREE * size:
            yield None
            return
        place = str(Path(folder) / "activations")
        try:
            reserve(Path(place), size)
        except OSError:
            yield None
            return
        held = torch.from_file(place, shared=True, size=math.prod(shape), dtype=dtype).view(shape)
        yield fill_activations(held, model, lower, samples, device)


def reserve(path: Path, size: int) -> None:
    """Create a file that nobody else may read, with room on the disk for all its bytes.

    A process that writes through a map into a file without room is ended by the system.

    Parameters
    ----------
    path : Path
        Path of the file. An existing file is overwritten.
    size : int
        Size of the file in bytes.

    Raises
    ------
    OSError
        If the disk is full.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_TRUNC, 0o600)
    try:
        if size and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
    finally:
        os.close(descriptor)


@torch.no_grad()
def activation_shape(
    model: nn.Module, lower: nn.Module, samples: SampleSet, device: torch.device
) -> tuple[torch.Size, torch.dtype]:
    """Shape and type of the activations of all samples.

    Parameters
    ----------
    model : nn.Module
        Tells how inputs are given to it.
    lower : nn.Module
        What lies below the division; the first sample is passed through it.
    samples : SampleSet
        Samples to pass, at least one.
    device : torch.device
        Device of the part.

    Returns
    -------
    (torch.Size, torch.dtype)
        The first dimension is the number of samples.
    """
    inputs, _ = samples.evaluated().batch(torch.tensor([0], device=samples.labels.device))
    first = lower(model_inputs(model, inputs.to(device)))
    return torch.Size((len(samples), *first.shape[1:])), first.dtype


@torch.no_grad()
def fill_activations(
    held: Tensor, model: nn.Module, lower: nn.Module, samples: SampleSet, device: torch.device
) -> Tensor:
    """Put the activations of all samples into a tensor.

    Parameters
    ----------
    held : Tensor
        Tensor of the shape and type that :func:`activation_shape` says; changed in place.
    model, lower, samples, device
        The model, its part and the samples, as for :func:`activation_shape`. Samples are read without random
        augmentation.

    Returns
    -------
    Tensor
        The tensor ``held``.
    """
    samples = samples.evaluated()
    plan = list(batch_slices(samples, device))
    for places, (inputs, _) in zip(plan, samples.batches(plan), strict=True):
        held[places] = lower(model_inputs(model, inputs.to(device, memory_format=memory_layout(model))))
    return held
