"""Sample ids on Avalanche's data sets, and conversion between such data sets and tensors."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks.utils import AvalancheDataset, DataAttribute
from avalanche.benchmarks.utils.classification_dataset import ClassificationDataset
from avalanche.benchmarks.utils.flat_data import FlatData
from avalanche.benchmarks.utils.transforms import TupleTransform
from torch import Tensor
from torch.utils.data import Dataset

from fed_unlearn.data.images import ImageSet, as_image_set
from fed_unlearn.errors import InvalidDataError

SAMPLE_ID = "sample_id"
"""Name of the data attribute with the ids. It is not part of batches."""


def with_sample_ids(
    dataset: AvalancheDataset, ids: Sequence[str] | None = None, *, unique: bool = True
) -> AvalancheDataset:
    """Return the data set with an id for each sample. Subsets and concatenations keep the ids.

    Parameters
    ----------
    dataset : AvalancheDataset
        The data set. It is not changed.
    ids : sequence of str, optional
        Ids of the samples, one for each. Default: ``"0"`` to ``"n-1"``.
    unique : bool, default True
        Whether every id must be different.

    Raises
    ------
    InvalidDataError
        If the number of ids is not the number of samples, or ``unique`` is set and an id comes twice.
    """
    if not isinstance(dataset, AvalancheDataset):
        raise InvalidDataError(
            f"a {type(dataset).__name__} was given; expected an AvalancheDataset, such as"
            " as_classification_dataset makes"
        )
    names = [str(name) for name in (range(len(dataset)) if ids is None else ids)]
    if len(names) != len(dataset) or (unique and len(set(names)) < len(names)):
        raise InvalidDataError(
            f"ids: {len(names)} ids, {len(set(names))} of them different, were given for {len(dataset)} samples;"
            " expected one unique id a sample"
        )
    attribute = DataAttribute(names, SAMPLE_ID)
    named = dataset.update_data_attribute(SAMPLE_ID, attribute)
    setattr(named, SAMPLE_ID, attribute)  # Avalanche leaves the old attribute in this place
    return named


def has_sample_ids(dataset: AvalancheDataset) -> bool:
    """Return whether the samples of a data set have ids."""
    return SAMPLE_ID in dataset._data_attributes


def sample_ids(dataset: AvalancheDataset) -> tuple[str, ...]:
    """Return the ids of all samples in order.

    Raises
    ------
    InvalidDataError
        If the samples have none.
    """
    if not has_sample_ids(dataset):
        raise InvalidDataError(
            f"a data set of {len(dataset)} samples without sample ids was given; expected one that went through"
            " forget_benchmark or with_sample_ids, and concatenations only of such ones"
        )
    return tuple(map(str, attribute_values(dataset, SAMPLE_ID)))


def attribute_values(dataset: AvalancheDataset, name: str) -> list[Any]:
    """Return the values of a data attribute in order. ``list()`` of it gives the same, but is slow."""
    return _values(dataset._data_attributes[name].data)


def labels_of(dataset: AvalancheDataset) -> list[int]:
    """Return the labels of all samples in order."""
    return [int(label) for label in attribute_values(dataset, "targets")]


def as_avalanche_dataset(images: ImageSet) -> AvalancheDataset:
    """Return an ImageSet as a data set of Avalanche's, with its labels as targets and with its ids.

    Parameters
    ----------
    images : ImageSet
        The images. Nothing is copied.

    Returns
    -------
    ClassificationDataset
        The data set. Its items are ``(image, label)``. Images are float32 of shape (channels, height, width) in [0, 1].
    """
    attributes = [DataAttribute(images.labels.tolist(), "targets"), DataAttribute(list(images.ids), SAMPLE_ID)]
    return ClassificationDataset([images], data_attributes=attributes)


def as_images(dataset: AvalancheDataset) -> ImageSet:
    """Return the samples as tensors, with the transformations of Avalanche's ``eval`` group.

    If the data set is a view of an :class:`ImageSet` without transformations, the tensors of the ImageSet are indexed.
    Images of type uint8 then stay uint8, and are converted to floats in [0, 1] when they are read.

    Parameters
    ----------
    dataset : AvalancheDataset
        The data set. It has sample ids. Its items are ``(image, label)`` or ``(image, label, task)``, with images as
        float tensors of shape (channels, height, width) in [0, 1].

    Raises
    ------
    InvalidDataError
        If the samples have no ids, or are not such images.
    EmptySetError
        If there is no sample, and no :class:`ImageSet` below from which the image shape is known.
    """
    ids = sample_ids(dataset)
    images = _indexed(dataset, ids)
    return images if images is not None else as_image_set(_Pairs(dataset.eval(), ids))


def without(dataset: AvalancheDataset, ids: Collection[str]) -> AvalancheDataset:
    """Return the samples whose id is not among ``ids``, in order. It is the same object if these are all samples."""
    unwanted = set(ids)
    if not unwanted:
        return dataset
    kept = [position for position, name in enumerate(sample_ids(dataset)) if name not in unwanted]
    return dataset if len(kept) == len(dataset) else dataset.subset(kept)


def located(dataset: AvalancheDataset) -> tuple[list[Any], np.ndarray, np.ndarray]:
    """Return where each sample lies in the data sets below Avalanche's views.

    Returns
    -------
    bases : list
        The data sets below all views, each once.
    numbers, positions : ndarray of shape (n,), int64
        Number of each sample's base in ``bases``, and the sample's index in that base.
    """
    return _located(dataset._flat_data)


class _Pairs(Dataset[tuple[Any, Any]]):
    """A data set's items without task labels, and the ids of its samples."""

    def __init__(self, dataset: AvalancheDataset, ids: tuple[str, ...]) -> None:
        self._dataset = dataset
        self.ids = ids

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image, label = self._dataset[index][:2]
        return image, label


def _values(data: Any) -> list[Any]:
    if not isinstance(data, FlatData):
        return data if isinstance(data, list) else list(data)
    parts = [part if isinstance(part, list) else _values(part) for part in data._datasets]
    values = parts[0] if len(parts) == 1 else [value for part in parts for value in part]
    return list(values) if data._indices is None else [values[index] for index in data._indices]


def _located(data: Any) -> tuple[list[Any], np.ndarray, np.ndarray]:
    if not isinstance(data, FlatData):
        return [data], np.zeros(len(data), dtype=np.int64), np.arange(len(data))
    bases: list[Any] = []
    parts = [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))]
    for child in data._datasets:
        found, numbers, positions = _located(child)
        places = np.array([_place(base, bases) for base in found], dtype=np.int64)
        parts.append((places[numbers], positions))
    numbers, positions = (np.concatenate(side) for side in zip(*parts, strict=True))
    if data._indices is not None:
        chosen = np.fromiter(data._indices, dtype=np.int64, count=len(data._indices))
        numbers, positions = numbers[chosen], positions[chosen]
    return bases, numbers, positions


def _place(base: object, bases: list[Any]) -> int:
    for number, known in enumerate(bases):
        if known is base:
            return number
    bases.append(base)
    return len(bases) - 1


def _indexed(dataset: AvalancheDataset, ids: tuple[str, ...]) -> ImageSet | None:
    """Return the samples by indexing the ImageSets below; None if reading them one by one may give other values."""
    bases, numbers, positions = located(dataset)
    if not bases or not all(isinstance(base, ImageSet) for base in bases) or _transforms(dataset._flat_data, 0):
        return None
    images, labels = _gathered(bases, torch.from_numpy(numbers), torch.from_numpy(positions))
    if _transforms(dataset._flat_data, 1):  # nc_benchmark renames classes as samples are read
        if "targets" not in dataset._data_attributes:
            return None
        targets = np.array(attribute_values(dataset, "targets"), dtype=np.int64)
        _, examples = np.unique(np.stack([numbers, labels.numpy(), targets]), axis=1, return_index=True)
        read = dataset.eval()
        if any(int(read[index][1]) != targets[index] for index in examples.tolist()):
            return None
        labels = torch.from_numpy(targets)
    return ImageSet(images, labels, ids)


def _gathered(bases: list[ImageSet], numbers: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    if len(bases) == 1 and torch.equal(positions, torch.arange(len(bases[0]))):
        return bases[0].images, bases[0].labels
    if len(bases) == 1:
        return bases[0].images[positions], bases[0].labels[positions]
    images = torch.empty(len(positions), *bases[0].image_shape)
    labels = torch.empty(len(positions), dtype=torch.int64)
    for number, base in enumerate(bases):
        held = (numbers == number).nonzero().flatten()
        images[held], labels[held] = base.batch(positions[held])
    return images, labels


def _transforms(data: Any, element: int) -> bool:
    """Return whether a view changes the image (element 0) or the label (element 1) when a sample is evaluated."""
    if not isinstance(data, FlatData):
        return False
    groups = [getattr(data, name, None) for name in ("_transform_groups", "_frozen_transform_groups")]
    if any(group is not None and _changes(group["eval"], element) for group in groups):
        return True
    return any(_transforms(dataset, element) for dataset in data._datasets)


def _changes(transform: Any, element: int) -> bool:
    if isinstance(transform, TupleTransform):
        return any(part is not None for part in transform.transforms[element : element + 1])
    return transform is not None
