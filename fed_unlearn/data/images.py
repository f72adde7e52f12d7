"""Labelled images as tensors that are read by batch, and the three sets of samples that a client holds."""

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
    """Labelled images that are read by batch, in memory or not. Methods and audits use only this interface.

    Attributes
    ----------
    labels : Tensor of shape (n,), int64
        Label of each sample, on the device on which batches are returned.
    """

    labels: Tensor

    def __len__(self) -> int: ...

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        ...

    def batch(self, indices: Tensor | slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Images, as float32 in [0, 1], and labels at some positions."""
        ...

    def batches(self, positions: Iterable[Tensor | slice]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the :meth:`batch` of each set of positions. The next one may be read ahead."""
        ...

    def subset(self, indices: Tensor) -> Samples:
        """The samples at ``indices`` (int64), in that order."""
        ...

    def to(self, device: torch.device) -> Samples:
        """The same samples, with batches and labels on a device."""
        ...


class ImageSet(Dataset[tuple[Tensor, int]]):
    """Images in memory with labels and stable sample ids: a map-style dataset of ``(image, label)``.

    Parameters
    ----------
    images : Tensor of shape (n, channels, height, width), uint8 in 0..255 or float32 in [0, 1]
        The images. Bytes stay bytes in memory and become floats in [0, 1] when they are read.
    labels : Tensor of shape (n,), int64
        Label of each image.
    ids : sequence of str, optional
        Stable id of each sample. If none are given, its index.

    Raises
    ------
    InvalidDataError
        If shapes, dtypes or the number of ids do not fit, or an id occurs twice.
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
                " images; expected one unique id for each image"
            )
        self.images = images
        self.image_shape = (images.shape[1], images.shape[2], images.shape[3])
        self.labels = labels
        self.ids = tuple(ids) if ids is not None else tuple(str(index) for index in range(len(images)))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        images, labels = self.batch(torch.tensor([index]))
        return images[0], int(labels[0])

    def batch(self, indices: Tensor | slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Images, as float32 in [0, 1], and labels at some positions."""
        images = self.images[indices]
        if images.dtype == torch.uint8:
            images = images.to(torch.float32).div_(255)
        return images, self.labels[indices]

    def batches(self, positions: Iterable[Tensor | slice]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the :meth:`batch` of each set of positions."""
        return (self.batch(indices) for indices in positions)

    def to(self, device: torch.device) -> ImageSet:
        """The same samples with their tensors on a device. The set itself if they are there already."""
        if self.images.device == device and self.labels.device == device:
            return self
        return ImageSet(self.images.to(device), self.labels.to(device), self.ids)

    def subset(self, indices: Tensor) -> ImageSet:
        """The samples at ``indices`` (int64), in that order, with their ids."""
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
    """Read a map-style dataset of ``(image, label)`` into an :class:`ImageSet`.

    Parameters
    ----------
    dataset : Dataset
        Its images are float tensors (channels, height, width) in [0, 1]. If it has ``ids``, they are kept.

    Raises
    ------
    EmptySetError
        If the dataset has no sample.
    InvalidDataError
        If an image is not a float tensor of three dimensions, or a pixel is outside [0, 1].
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
            f"{type(dataset).__name__}: the items do not fit ({str(error).splitlines()[0]}); expected (image, label)"
            " with images that are float tensors of one shape and labels that are whole numbers"
        ) from error
    require_pixels(images)
    return ImageSet(images, labels, getattr(dataset, "ids", None))


def require_pixels(images: Tensor) -> None:
    """Raise if a pixel is outside [0, 1].

    Parameters
    ----------
    images : Tensor of any shape
        The images. Bytes (uint8) always pass, because they are scaled to [0, 1] when they are read.

    Raises
    ------
    InvalidDataError
        The message names the range of the pixels.
    """
    if images.dtype == torch.uint8 or images.numel() == 0:
        return
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):  # also true if a pixel is not a number
        raise InvalidDataError(
            f"images: pixels from {low:.3g} to {high:.3g} were given; expected [0, 1]: normalisation belongs inside the"
            " model"
        )


def concatenate(*parts: ImageSet) -> ImageSet:
    """The samples of all parts, in order. If ids repeat, all samples are numbered anew."""
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
    """The samples of one client, in three sets that share no sample.

    Attributes
    ----------
    train, validation, test : ImageSet
        Samples for training, for the gate, and for results.
    class_count : int
        Number of classes of the whole task, whether this client holds samples of them or not.
    fingerprint : str
        Digest of the source that the sample ids refer to.
    experiences : Tensor of shape (len(train),), int64, optional
        Number of the training experience, counted from 1, with which each training sample arrives. If none are given,
        all samples are there from the start.

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
        """Number of the last experience with which a sample arrives. 1 if all samples are there from the start."""
        return 1 if self.experiences is None or len(self.train) == 0 else int(self.experiences.max())

    def arrived(self, number: int | None) -> ImageSet:
        """The training samples of experiences 1 to ``number``, including forgotten ones.

        Parameters
        ----------
        number : int or None
            Number of the experience, counted from 1. None means all; so does 0, which messages carry.
        """
        if self.experiences is None or not number or number >= self.experience_count:
            return self.train
        return self.train.subset((self.experiences <= number).nonzero().flatten())

    def of_experience(self, number: int) -> ImageSet:
        """The training samples of one experience, counted from 1, including forgotten ones.

        Without experience numbers all samples belong to the first experience.
        """
        numbers = torch.ones(len(self.train), dtype=torch.int64) if self.experiences is None else self.experiences
        return self.train.subset((numbers == number).nonzero().flatten())
