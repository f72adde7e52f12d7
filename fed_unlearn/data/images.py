"""Labelled images as tensors, indexed by batch: what every client holds and every method reads."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from fed_unlearn.errors import EmptySetError, InvalidDataError


class Samples(Protocol):
    """Labelled images read by batch, wherever they lie: what every method and every audit is written against.

    Attributes
    ----------
    labels : Tensor of shape (n,), int64
        On the device that batches are given on.
    """

    labels: Tensor

    def __len__(self) -> int: ...

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        ...

    def batch(self, indices: Tensor | slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Images as float32 in [0, 1] and their labels, for the given positions."""
        ...

    def batches(self, positions: Iterable[Tensor | slice]) -> Iterator[tuple[Tensor, Tensor]]:
        """:meth:`batch` for one set of positions after the other; the next may be read ahead."""
        ...

    def subset(self, indices: Tensor) -> Samples:
        """The samples at ``indices`` (int64), in that order."""
        ...

    def to(self, device: torch.device) -> Samples:
        """The same samples, given on a device."""
        ...


class ImageSet(Dataset[tuple[Tensor, int]]):
    """Images, labels and stable sample ids; a map-style dataset of ``(image, label)``.

    Parameters
    ----------
    images : Tensor of shape (n, channels, height, width), uint8 in 0..255 or float32 in [0, 1]
        Bytes stay bytes in memory and become floats in [0, 1] as they are read.
    labels : Tensor of shape (n,), int64
    ids : sequence of str, optional
        One stable id a sample; the index where none is given.

    Raises
    ------
    InvalidDataError
        If shapes, dtypes or the number of ids do not fit, or an id stands twice.
    """

    def __init__(self, images: Tensor, labels: Tensor, ids: Sequence[str] | None = None) -> None:
        if images.ndim != 4 or images.dtype not in (torch.uint8, torch.float32):
            raise InvalidDataError(
                f"images: a tensor of shape {tuple(images.shape)} and {images.dtype} was given; expected"
                " (n, channels, height, width) of uint8 or float32 in [0, 1]"
            )
        if labels.shape != images.shape[:1] or labels.dtype != torch.int64:
            raise InvalidDataError(
                f"labels: a tensor of shape {tuple(labels.shape)} and {labels.dtype} was given;"
                f" expected ({len(images)},) of int64"
            )
        if ids is not None and (len(ids) != len(images) or len(set(ids)) != len(ids)):
            raise InvalidDataError(
                f"ids: {len(ids)} ids, {len(set(ids))} of them different, were given for {len(images)}"
                " images; expected one unique id an image"
            )
        self.images = images
        self.labels = labels
        self.ids = tuple(ids) if ids is not None else tuple(str(index) for index in range(len(images)))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        images, labels = self.batch(torch.tensor([index]))
        return images[0], int(labels[0])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def batch(self, indices: Tensor | slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Images as float32 in [0, 1] and their labels, for the given positions."""
        images = self.images[indices]
        if images.dtype == torch.uint8:
            images = images.to(torch.float32).div_(255)
        return images, self.labels[indices]

    def batches(self, positions: Iterable[Tensor | slice]) -> Iterator[tuple[Tensor, Tensor]]:
        """:meth:`batch` for one set of positions after the other."""
        return (self.batch(indices) for indices in positions)

    def to(self, device: torch.device) -> ImageSet:
        """The same samples with their tensors on a device; itself where they are there."""
        if self.images.device == device and self.labels.device == device:
            return self
        return ImageSet(self.images.to(device), self.labels.to(device), self.ids)

    def subset(self, indices: Tensor) -> ImageSet:
        """The samples at ``indices`` (int64), in that order, ids kept."""
        return ImageSet(self.images[indices], self.labels[indices], [self.ids[index] for index in indices.tolist()])

    def only(self, ids: Collection[str]) -> ImageSet:
        """The samples whose id is among ``ids``, in this set's order."""
        wanted = set(ids)
        return self._where([sample_id in wanted for sample_id in self.ids])

    def without(self, ids: Collection[str]) -> ImageSet:
        """The samples whose id is not among ``ids``, in this set's order."""
        unwanted = set(ids)
        if not unwanted:
            return self
        return self._where([sample_id not in unwanted for sample_id in self.ids])

    def of_classes(self, classes: Collection[int]) -> ImageSet:
        """The samples whose label is among ``classes``, in this set's order."""
        wanted = torch.tensor(sorted(classes), dtype=torch.int64)
        return self._where(torch.isin(self.labels, wanted).tolist())

    def relabelled(self, labels: Tensor) -> ImageSet:
        """The same images and ids under other labels."""
        return ImageSet(self.images, labels, self.ids)

    def _where(self, mask: list[bool]) -> ImageSet:
        return self.subset(torch.tensor(mask, dtype=torch.bool).nonzero().flatten())


def as_image_set(dataset: Dataset[tuple[Tensor, int]]) -> ImageSet:
    """Any map-style dataset of ``(image, label)`` as an :class:`ImageSet`, read once.

    Parameters
    ----------
    dataset : Dataset
        Images are float tensors (channels, height, width) in [0, 1]. Where it has ``ids``, they are kept.

    Raises
    ------
    EmptySetError
        If it has no sample.
    InvalidDataError
        If an image is not a float tensor of three dimensions, or leaves [0, 1].
    """
    if isinstance(dataset, ImageSet):
        return dataset
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise InvalidDataError(f"{type(dataset).__name__} was given; expected a map-style dataset of (image, label)")
    size = len(dataset)
    if size == 0:
        raise EmptySetError("the dataset has no sample; at least one was expected")
    items = [dataset[index] for index in range(size)]
    try:
        images = torch.stack([torch.as_tensor(image, dtype=torch.float32) for image, _ in items])
        labels = torch.tensor([operator.index(label) for _, label in items], dtype=torch.int64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidDataError(
            f"{type(dataset).__name__}: items of (image, label) were expected, images float tensors of one shape and"
            f" labels whole numbers; they do not fit ({str(error).splitlines()[0]})"
        ) from error
    require_pixels(images)
    return ImageSet(images, labels, getattr(dataset, "ids", None))


def require_pixels(images: Tensor) -> None:
    """Refuse images that are not in [0, 1].

    Parameters
    ----------
    images : Tensor of any shape
        Bytes (uint8) always pass: they become [0, 1] when they are read.

    Raises
    ------
    InvalidDataError
        Naming the range that was found.
    """
    if images.dtype == torch.uint8 or images.numel() == 0:
        return
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):  # a pixel that is not a number fails both
        raise InvalidDataError(
            f"images: pixels from {low:.3g} to {high:.3g} were given; expected [0, 1]: normalisation belongs inside the"
            " model"
        )


def concatenate(*parts: ImageSet) -> ImageSet:
    """The samples of all parts, in order. Parts share one image shape; ids are numbered anew where they repeat."""
    filled = [part for part in parts if len(part)]
    if not filled:
        return parts[0]
    if len(filled) == 1:
        return filled[0]
    if len({part.images.dtype for part in filled}) > 1:
        images = torch.cat([part.batch()[0] for part in filled])
    else:
        images = torch.cat([part.images for part in filled])
    labels = torch.cat([part.labels for part in filled])
    ids = [sample_id for part in filled for sample_id in part.ids]
    if len(set(ids)) < len(ids):
        return ImageSet(images, labels)
    return ImageSet(images, labels, ids)


@dataclass(frozen=True)
class ClientData:
    """What one client holds: three parts that share no sample.

    Attributes
    ----------
    train, validation, test : ImageSet
        Training reads ``train``, the gate reads ``validation``, results read ``test``.
    class_count : int
        Number of classes of the whole task, held by this client or not.
    fingerprint : str
        Digest of the source that the sample ids refer to; another source has another.
    experiences : Tensor of shape (len(train),), int64, optional
        The number of the training experience, from 1, that each training sample arrives with. All are there from the
        start where there are none.

    Raises
    ------
    InvalidDataError
        If there is not one experience number from 1 for each training sample.
    """

    train: ImageSet
    validation: ImageSet
    test: ImageSet
    class_count: int
    fingerprint: str
    experiences: Tensor | None = None

    def __post_init__(self) -> None:
        numbers = self.experiences
        if numbers is None:
            return
        if numbers.dtype != torch.int64 or numbers.shape != (len(self.train),) or (numbers < 1).any():
            raise InvalidDataError(
                f"experiences: a tensor of shape {tuple(numbers.shape)} and {numbers.dtype} was given; expected"
                f" ({len(self.train)},) of int64, numbers from 1"
            )

    @property
    def experience_count(self) -> int:
        """Number of the last experience that a sample of this client arrives with; 1 where all are there at once."""
        return 1 if self.experiences is None or len(self.train) == 0 else int(self.experiences.max())

    def arrived(self, number: int | None) -> ImageSet:
        """The training samples of experiences 1 to ``number``, forgotten ones included.

        Parameters
        ----------
        number : int or None
            From 1; 0 (as messages say it) and None mean all.
        """
        if self.experiences is None or not number or number >= self.experience_count:
            return self.train
        return self.train.subset((self.experiences <= number).nonzero().flatten())

    def of_experience(self, number: int) -> ImageSet:
        """The training samples of one experience, from 1, forgotten ones included; all are of the first without any."""
        numbers = torch.ones(len(self.train), dtype=torch.int64) if self.experiences is None else self.experiences
        return self.train.subset((numbers == number).nonzero().flatten())
