"""Labelled images as tensors that are read by batch, and the three sets of samples that a client holds."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from fed_unlearn.class_names import ClassNames, class_names_problem
from fed_unlearn.data.domain import PIXELS
from fed_unlearn.data.joined import concatenate
from fed_unlearn.data.sample_set import Indices, SampleSet, checked_ids
from fed_unlearn.data.tensors import TensorSet
from fed_unlearn.data.trigger import Trigger
from fed_unlearn.errors import EmptySetError, InvalidDataError

__all__ = ["ClientData", "ImageSet", "as_image_set", "concatenate", "require_pixels"]


class ImageSet(TensorSet):
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
        self._hold(images, labels, checked_ids(len(images), labels, ids, "images"), PIXELS)

    @property
    def images(self) -> Tensor:
        """The images in memory, of shape (n, channels, height, width), uint8 or float32."""
        return self.inputs

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        channels, height, width = self.inputs.shape[1:]
        return channels, height, width

    def batch(self, indices: Indices = slice(None)) -> tuple[Tensor, Tensor]:
        """Images, as float32 in [0, 1], and labels at some positions."""
        images = self.inputs[indices]
        if images.dtype == torch.uint8:
            images = images.to(torch.float32).div_(255)
        return images, self.labels[indices]


def as_image_set(dataset: Dataset[tuple[Tensor, int]]) -> ImageSet:
    """Read a map-style dataset of ``(image, label)`` into an :class:`ImageSet`.

    Parameters
    ----------
    dataset : Dataset
        The dataset. Its images are float tensors (channels, height, width) in [0, 1]. If it has ``ids``, they are kept.

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
    PIXELS.check(images)


@dataclass(frozen=True)
class ClientData:
    """The samples of one client, in three sets that share no sample.

    Attributes
    ----------
    train, validation, test : SampleSet
        Samples for training, for the gate, and for results.
    class_count : int
        Number of classes of the whole task, whether this client holds samples of them or not.
    fingerprint : str
        Digest of the source that the sample ids refer to.
    experiences : Tensor of shape (len(train),), int64, optional
        Number of the training experience, counted from 1, with which each training sample arrives. If none are given,
        all samples are there from the start.
    class_names : tuple of str, optional
        The data's own label or name of each class, in the order of the model's outputs. Requests may name them, and
        tables and logs show them. Without any, classes go by their index.
    trigger : Trigger, optional
        A trigger that some client has planted in its training samples, for audits of what a model does with it. It is
        shown on test samples then, and changes nothing else here.

    Raises
    ------
    InvalidDataError
        If there is not one experience number from 1 for each training sample, or not one name for each class.
    """

    train: SampleSet
    validation: SampleSet
    test: SampleSet
    class_count: int
    fingerprint: str
    experiences: Tensor | None = None
    class_names: tuple[str, ...] | None = None
    trigger: Trigger | None = None

    def __post_init__(self) -> None:
        if self.class_names is not None:
            if (problem := class_names_problem(self.class_names, self.class_count)) is not None:
                raise InvalidDataError(f"class_names: {problem}")
            object.__setattr__(self, "class_names", tuple(self.class_names))
        numbers = self.experiences
        if numbers is None:
            return
        if numbers.dtype != torch.int64 or numbers.shape != (len(self.train),) or (numbers < 1).any():
            raise InvalidDataError(
                f"experiences: a tensor of shape {tuple(numbers.shape)} and {numbers.dtype} was given; expected"
                f" ({len(self.train)},) of int64, numbers from 1"
            )

    @property
    def classes(self) -> ClassNames:
        """The names of the classes; without any where the data says none."""
        return ClassNames(self.class_names or ())

    @property
    def experience_count(self) -> int:
        """Number of the last experience with which a sample arrives. 1 if all samples are there from the start."""
        return 1 if self.experiences is None or len(self.train) == 0 else int(self.experiences.max())

    def arrived(self, number: int | None) -> SampleSet:
        """The training samples of experiences 1 to ``number``, including forgotten ones.

        Parameters
        ----------
        number : int or None
            Number of the experience, counted from 1. None means all; so does 0, which messages carry.
        """
        if self.experiences is None or not number or number >= self.experience_count:
            return self.train
        return self.train.subset((self.experiences <= number).nonzero().flatten())

    def of_experience(self, number: int) -> SampleSet:
        """The training samples of one experience, counted from 1, including forgotten ones.

        Without experience numbers all samples belong to the first experience.
        """
        numbers = torch.ones(len(self.train), dtype=torch.int64) if self.experiences is None else self.experiences
        return self.train.subset((numbers == number).nonzero().flatten())
