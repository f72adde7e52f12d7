"""Samples that do not fit in memory and are read through a DataLoader when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, SequentialSampler

from fed_unlearn.data.images import require_pixels
from fed_unlearn.errors import EmptySetError, InvalidDataError


class StreamedSet:
    """The samples of a DataLoader's dataset. Only their labels stay in memory.

    The methods choose the samples of each batch, so that the results equal those of the same samples in memory. The
    loader's dataset, workers and collate function are used; its batch size and order are not. Everything is read once
    when the set is made, to collect the labels and to check the pixels. A sample must be the same each time it is read,
    so the dataset must not augment at random.

    Parameters
    ----------
    loader : DataLoader
        A loader over a map-style dataset of ``(image, label)``. Its collate function must return images and labels;
        images are float32 of shape (n, channels, height, width) in [0, 1].

    Attributes
    ----------
    labels : Tensor of shape (n,), int64
        Label of each sample, on the device on which batches are returned.

    Raises
    ------
    EmptySetError
        If the dataset has no sample.
    InvalidDataError
        If the dataset is iterable-style, the loader selects samples, or its batches are not such images and labels.
    """

    labels: Tensor

    def __init__(self, loader: DataLoader[Any]) -> None:
        if isinstance(loader.dataset, IterableDataset) or not isinstance(loader.dataset, Sized):
            raise InvalidDataError(
                f"{type(loader.dataset).__name__}: an iterable-style dataset was given; expected a map-style one,"
                " because the method chooses the order of samples"
            )
        size = len(loader.dataset)
        if size == 0:
            raise EmptySetError("the loader's dataset has no sample; at least one was expected")
        if _selects(loader, size):
            raise InvalidDataError(
                "a loader with a sampler of its own was given; the method reads all samples in an order of its own:"
                " give a loader over a torch.utils.data.Subset of the samples to read"
            )
        self._dataset = loader.dataset
        self._read = _reader(loader)
        self._device = torch.device("cpu")
        self._positions = torch.arange(size)
        self.labels = self._scan(loader.batch_size or 64)

    def __len__(self) -> int:
        return len(self._positions)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return self._image_shape

    def batch(self, indices: Tensor | slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Images, as float32 in [0, 1], and labels at some positions."""
        return next(self.batches([indices]))

    def batches(self, positions: Iterable[Tensor | slice]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the :meth:`batch` of each set of positions. The loader's workers read ahead."""
        plan = [self._positions[part if isinstance(part, slice) else part.cpu()].tolist() for part in positions]
        for images, labels in self._read(plan):
            yield images.to(self._device), labels.to(self._device, torch.int64)

    def subset(self, indices: Tensor) -> StreamedSet:
        """The samples at ``indices`` (int64), in that order."""
        part = self._copy()
        part._positions = self._positions[indices.cpu()]
        part.labels = self.labels[indices.to(self.labels.device)]
        return part

    def to(self, device: torch.device) -> StreamedSet:
        """The same samples, with batches and labels on a device."""
        moved = self._copy()
        moved._device = device
        moved.labels = self.labels.to(device)
        return moved

    def _copy(self) -> StreamedSet:
        other = object.__new__(StreamedSet)
        other.__dict__.update(self.__dict__)
        return other

    def _scan(self, batch_size: int) -> Tensor:
        """Read everything once; return the labels."""
        labels = []
        for images, batch_labels in self._read([part.tolist() for part in self._positions.split(batch_size)]):
            fitting = images.ndim == 4 and images.dtype == torch.float32 and batch_labels.shape == images.shape[:1]
            if not fitting or batch_labels.is_floating_point() or batch_labels.dtype == torch.bool:
                raise InvalidDataError(
                    f"the loader gave images of shape {tuple(images.shape)} and {images.dtype} with labels of shape"
                    f" {tuple(batch_labels.shape)} and {batch_labels.dtype}; expected (n, channels, height, width) of"
                    " float32, and (n,) of int64"
                )
            require_pixels(images)
            labels.append(batch_labels.to(torch.int64))
            _, channels, height, width = images.shape
            self._image_shape = (channels, height, width)
        return torch.cat(labels)


def _selects(loader: DataLoader[Any], size: int) -> bool:
    """Whether a loader may return anything but each of its dataset's samples once."""
    if loader.batch_sampler is not None and type(loader.batch_sampler) is not BatchSampler:
        return True
    if type(loader.sampler) is RandomSampler:
        return loader.sampler.replacement or len(loader.sampler) != size
    return type(loader.sampler) is not SequentialSampler


def _reader(loader: DataLoader[Any]) -> Callable[[list[list[int]]], Iterator[tuple[Tensor, Tensor]]]:
    """Make a function that reads batches of positions with the loader's workers and collate function."""

    def read(plan: list[list[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        planned: DataLoader[Any] = DataLoader(
            loader.dataset,
            batch_sampler=plan,
            # Starting a worker takes longer than reading a single batch.
            num_workers=loader.num_workers if len(plan) > 1 else 0,
            collate_fn=loader.collate_fn,
            worker_init_fn=loader.worker_init_fn,
            # Without a generator, a loader draws its base seed from the global one.
            generator=torch.Generator().manual_seed(0),
        )
        for batch in planned:
            if not (isinstance(batch, list | tuple) and len(batch) == 2):
                raise InvalidDataError(
                    f"the loader gave batches of type {type(batch).__name__}; expected pairs of images and labels"
                )
            yield torch.as_tensor(batch[0]), torch.as_tensor(batch[1])

    return read
