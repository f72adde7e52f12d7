"""Samples that do not fit in memory and are read through a DataLoader when they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler

from fed_unlearn.data.domain import PIXELS
from fed_unlearn.data.lazy import LazySet, size_of
from fed_unlearn.errors import EmptySetError, InvalidDataError


class StreamedSet(LazySet):
    """The samples of a DataLoader's dataset. Only their labels and ids stay in memory.

    The methods choose the samples of each batch, so that the results equal those of the same samples in memory. The
    loader's dataset, workers and collate function are used; its batch size and order are not. Everything is read once
    when the set is made, to collect the labels and to check the pixels. A sample must be the same each time it is read,
    so the dataset must not augment at random.

    Parameters
    ----------
    loader : DataLoader
        A loader over a map-style dataset of ``(image, label)``. Its collate function must return images and labels;
        images are float32 of shape (n, channels, height, width) in [0, 1].

    Raises
    ------
    EmptySetError
        If the dataset has no sample.
    InvalidDataError
        If the dataset is iterable-style, the loader selects samples, or its batches are not such images and labels.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        size = size_of(loader.dataset)
        if size == 0:
            raise EmptySetError("the loader's dataset has no sample; at least one was expected")
        if _selects(loader, size):
            raise InvalidDataError(
                "a loader with a sampler of its own was given; the method reads all samples in an order of its own:"
                " give a loader over a torch.utils.data.Subset of the samples to read"
            )
        labels = torch.cat([part for _, part in _pairs(loader)])

        def images_of(items: list[Any]) -> Tensor:
            images, _ = _pair(loader.collate_fn(items))
            return images

        super().__init__(
            loader.dataset,
            labels,
            collate=images_of,
            workers=loader.num_workers,
            worker_init=loader.worker_init_fn,
        )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        channels, height, width = self.input_shape
        return channels, height, width


def _pairs(loader: DataLoader[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    """Read everything once, in order; yield checked images and labels."""
    size, step = size_of(loader.dataset), loader.batch_size or 64
    planned: DataLoader[Any] = DataLoader(
        loader.dataset,
        batch_sampler=[list(range(start, min(start + step, size))) for start in range(0, size, step)],
        num_workers=loader.num_workers if size > step else 0,
        collate_fn=loader.collate_fn,
        worker_init_fn=loader.worker_init_fn,
        # Without a generator, a loader draws its base seed from the global one.
        generator=torch.Generator().manual_seed(0),
    )
    for batch in planned:
        images, labels = _pair(batch)
        fitting = images.ndim == 4 and images.dtype == torch.float32 and labels.shape == images.shape[:1]
        if not fitting or labels.is_floating_point() or labels.dtype == torch.bool:
            raise InvalidDataError(
                f"the loader gave images of shape {tuple(images.shape)} and {images.dtype} with labels of shape"
                f" {tuple(labels.shape)} and {labels.dtype}; expected (n, channels, height, width) of float32, and (n,)"
                " of int64"
            )
        PIXELS.check(images)
        yield images, labels.to(torch.int64)


def _pair(batch: object) -> tuple[Tensor, Tensor]:
    if not (isinstance(batch, list | tuple) and len(batch) == 2):
        raise InvalidDataError(
            f"the loader gave batches of type {type(batch).__name__}; expected pairs of images and labels"
        )
    return torch.as_tensor(batch[0]), torch.as_tensor(batch[1])


def _selects(loader: DataLoader[Any], size: int) -> bool:
    """Whether a loader may return anything but each of its dataset's samples once."""
    if loader.batch_sampler is not None and type(loader.batch_sampler) is not BatchSampler:
        return True
    if type(loader.sampler) is RandomSampler:
        return loader.sampler.replacement or len(loader.sampler) != size
    return type(loader.sampler) is not SequentialSampler
