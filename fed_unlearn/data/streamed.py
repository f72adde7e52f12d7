"""Samples too many for memory, read when they are needed through a DataLoader."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, SequentialSampler

from fed_unlearn.data.images import require_pixels
from fed_unlearn.errors import EmptySetError, InvalidDataError


class StreamedSet:
    """The samples of a DataLoader's dataset, batch by batch; only their labels stay in memory.

    A method decides itself which samples make a batch, so that the same samples in memory give the same results: of
    the loader, its dataset, workers and collate function are used, and its batch size and order are not. Everything is
    read once when the set is made, for the labels and to check the pixels. A sample must be the same each time it is
    read: without random augmentation.

    Parameters
    ----------
    loader : DataLoader
        Over a map-style dataset of ``(image, label)``; collates to (images, labels), images float32 of shape
        (n, channels, height, width) in [0, 1].

    Raises
    ------
    EmptySetError
        If the dataset has no sample.
    InvalidDataError
        If the dataset is iterable-style, the loader has a sampler of its own, or its batches are not such images and
        labels.
    """

    labels: Tensor

    def __init__(self, loader: DataLoader[Any]) -> None:
        if isinstance(loader.dataset, IterableDataset):
            raise InvalidDataError(
                f"{type(loader.dataset).__name__}: an iterable-style dataset was given; samples are read in an order of"
                " the method's own, which takes a map-style one"
            )
        if len(loader.dataset) == 0:  # type: ignore[arg-type]
            raise EmptySetError("the loader's dataset has no sample; at least one was expected")
        if _selects(loader):
            raise InvalidDataError(
                "a loader with a sampler of its own was given; samples are read in an order of the method's own, all of"
                " them: give a loader over a torch.utils.data.Subset of those that are meant"
            )
        self._dataset = loader.dataset
        self._read = _reader(loader)
        self._device = torch.device("cpu")
        self._positions = torch.arange(len(loader.dataset))  # type: ignore[arg-type]
        self.labels = self._scan(loader.batch_size or 64)

    def __len__(self) -> int:
        return len(self._positions)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return self._image_shape

    def batch(self, indices: Tensor | slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Images as float32 in [0, 1] and their labels, for the given positions."""
        return next(self.batches([indices]))

    def batches(self, positions: Iterable[Tensor | slice]) -> Iterator[tuple[Tensor, Tensor]]:
        """:meth:`batch` for one set of positions after the other, read ahead by the loader's workers."""
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
        """The same samples, whose batches are given on a device."""
        moved = self._copy()
        moved._device = device
        moved.labels = self.labels.to(device)
        return moved

    def _copy(self) -> StreamedSet:
        other = object.__new__(StreamedSet)
        other.__dict__.update(self.__dict__)
        return other

    def _scan(self, batch_size: int) -> Tensor:
        """Read everything once; the labels."""
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


def _selects(loader: DataLoader[Any]) -> bool:
    """Whether a loader's samples may be others than its dataset's, each once."""
    if loader.batch_sampler is not None and type(loader.batch_sampler) is not BatchSampler:
        return True
    if type(loader.sampler) is RandomSampler:
        return loader.sampler.replacement or len(loader.sampler) != len(loader.dataset)  # type: ignore[arg-type]
    return type(loader.sampler) is not SequentialSampler


def _reader(loader: DataLoader[Any]) -> Callable[[list[list[int]]], Iterator[tuple[Tensor, Tensor]]]:
    """A function that reads the given batches of positions with the loader's own workers and collate function."""

    def read(plan: list[list[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        planned: DataLoader[Any] = DataLoader(
            loader.dataset,
            batch_sampler=plan,
            # A single batch is not worth the start of a worker.
            num_workers=loader.num_workers if len(plan) > 1 else 0,
            collate_fn=loader.collate_fn,
            worker_init_fn=loader.worker_init_fn,
            # Without one, a loader draws its base seed from the global generator.
            generator=torch.Generator().manual_seed(0),
        )
        for batch in planned:
            if not (isinstance(batch, list | tuple) and len(batch) == 2):
                raise InvalidDataError(
                    f"the loader gave batches of type {type(batch).__name__}; expected pairs of images and labels"
                )
            yield torch.as_tensor(batch[0]), torch.as_tensor(batch[1])

    return read
