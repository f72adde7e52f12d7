"""Sample ids on Avalanche's data sets, and where their samples lie."""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set
from typing import Any

import numpy as np
from avalanche.benchmarks.utils import AvalancheDataset, DataAttribute
from avalanche.benchmarks.utils.classification_dataset import ClassificationDataset
from avalanche.benchmarks.utils.flat_data import FlatData

from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import InvalidDataError

SAMPLE_ID = "sample_id"
"""Name of the data attribute with the ids. It is not part of batches."""

TASK_LABELS = "targets_task_labels"
"""Name of the data attribute with the task labels."""


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
    """Return the labels of all samples in order.

    Raises
    ------
    InvalidDataError
        If a target is no whole number, as in regression and detection.
    """
    given = attribute_values(dataset, "targets")
    try:
        labels = [int(label) for label in given]
    except (TypeError, ValueError):
        labels = []
    wrong = next((label for label, target in zip(labels, given, strict=False) if label != target), None)
    if len(labels) < len(given) or wrong is not None:
        raise InvalidDataError(
            f"targets such as {given[0]!r} were given; expected the labels of a classification benchmark, which are"
            " whole numbers"
        )
    return labels


def has_task_labels(dataset: AvalancheDataset) -> bool:
    """Return whether the samples of a data set have task labels."""
    return TASK_LABELS in dataset._data_attributes


def task_labels_of(dataset: AvalancheDataset) -> list[int]:
    """Return the task labels of all samples in order.

    Raises
    ------
    InvalidDataError
        If the samples have none.
    """
    if len(dataset) == 0:
        return []
    if not has_task_labels(dataset):
        raise InvalidDataError(
            f"{len(dataset)} samples without task labels were given; expected those of a benchmark with tasks, such as"
            " nc_benchmark(..., task_labels=True) makes"
        )
    return [int(task) for task in attribute_values(dataset, TASK_LABELS)]


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


def each_once(dataset: AvalancheDataset) -> AvalancheDataset:
    """Return the first sample of each id, in order. It is the same object if no id comes twice."""
    first = {name: position for position, name in reversed(list(enumerate(sample_ids(dataset))))}
    return dataset if len(first) == len(dataset) else dataset.subset(sorted(first.values()))


def without(dataset: AvalancheDataset, ids: Collection[str]) -> AvalancheDataset:
    """Return the samples whose id is not among ``ids``, in order. It is the same object if these are all samples."""
    unwanted = ids if isinstance(ids, Set) else set(ids)
    if not unwanted:
        return dataset
    kept = [position for position, name in enumerate(sample_ids(dataset)) if name not in unwanted]
    return dataset if len(kept) == len(dataset) else dataset.subset(kept)


def only(dataset: AvalancheDataset, ids: Collection[str]) -> AvalancheDataset:
    """Return the samples whose id is among ``ids``, in order."""
    wanted = ids if isinstance(ids, Set) else set(ids)
    return dataset.subset([position for position, name in enumerate(sample_ids(dataset)) if name in wanted])


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


def bases_of(dataset: AvalancheDataset) -> list[Any]:
    """Return the data sets below Avalanche's views, each once. No sample is located."""
    found: dict[int, Any] = {}
    below: list[Any] = [dataset._flat_data]
    while below:
        item = below.pop()
        if isinstance(item, FlatData):
            below.extend(item._datasets)
        else:
            found.setdefault(id(item), item)
    return list(found.values())


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
