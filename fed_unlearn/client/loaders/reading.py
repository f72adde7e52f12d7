"""Samples of an app's own DataLoader: their labels, their inputs, and what the inputs are."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from fed_unlearn.client.loaders.batches import BatchKeys
from fed_unlearn.client.loaders.columns import check_positions, ids_of, label_column
from fed_unlearn.data.domain import PIXELS, TOKENS, VALUES, InputDomain
from fed_unlearn.data.held import held_in_memory, is_always_the_same, spread
from fed_unlearn.data.lazy import LazySet
from fed_unlearn.data.normalisation import found_normalisation, normalised_domain
from fed_unlearn.data.planned import planned_loader
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidDataError

logger = logging.getLogger("fed_unlearn.client")

_LOOKED_AT, _HASHED = 64, 16
"""Numbers of samples, spread over the data set, that say what the inputs are, and that are part of its fingerprint."""


@dataclass
class Memory:
    """The bytes that inputs of all clients of a process may take.

    Attributes
    ----------
    left : int
        Number of bytes that are left.
    """

    left: int = 3 * 2**28  # all of CIFAR-10 as floats

    def hold(self, samples: LazySet) -> SampleSet:
        """The samples with their inputs in memory, where they fit and are the same each time they are read."""
        held, size = held_in_memory(samples, self.left)
        self.left -= size
        return held


class InputCollate:
    """The inputs of a list of items, by the loader's own collate function.

    Parameters
    ----------
    loader : DataLoader
    keys : BatchKeys
    """

    def __init__(self, loader: DataLoader[Any], keys: BatchKeys) -> None:
        self._collate: Callable[[list[Any]], Any] = loader.collate_fn
        self._keys = keys

    def __call__(self, items: list[Any]) -> Tensor:
        """Inputs (n, ...) of n items."""
        return self._keys.split(self._collate(items))[0]


def samples_of(
    loader: DataLoader[Any],
    keys: BatchKeys,
    domain: InputDomain,
    *,
    evaluation: Dataset[Any] | None = None,
    memory: Memory,
) -> SampleSet:
    """The samples of a loader: in memory where they fit and are the same each time, else read when they are asked for.

    Parameters
    ----------
    loader : DataLoader
        The loader, one that ``check_loader`` takes.
    keys : BatchKeys
    domain : InputDomain
    evaluation : Dataset, optional
        The same samples in the same order without random augmentation.
    memory : Memory
        What is left of it.

    Raises
    ------
    InvalidDataError
        If its batches are not as the keys say, or a sample without an id is in it twice.
    """
    labels = _labels(loader, keys)
    ids = ids_of(loader.dataset)
    if ids is None:
        check_positions(loader.dataset)
    reading: dict[str, Any] = {"workers": loader.num_workers, "worker_init": loader.worker_init_fn, "domain": domain}
    collate = InputCollate(loader, keys)
    if evaluation is None:
        return memory.hold(LazySet(loader.dataset, labels, ids, collate=collate, **reading))
    view = memory.hold(LazySet(evaluation, labels, ids, collate=collate, **reading))
    return LazySet(loader.dataset, labels, ids, collate=collate, evaluation=view, **reading)


def first_batch(loader: DataLoader[Any]) -> Any:
    """A batch of at most two samples of a loader.

    Raises
    ------
    InvalidDataError
        If the loader has no sample.
    """
    size = _size(loader.dataset)
    if size == 0:
        raise InvalidDataError("a loader without samples was given; at least one was expected")
    return next(_read(loader, [list(range(min(2, size)))]))


def domain_of(loader: DataLoader[Any], keys: BatchKeys, normalize: tuple[Any, Any] | None = None) -> InputDomain:
    """What the inputs of a loader are.

    Pixels where they are normalised as ``normalize`` or the data set's transforms say, or where images are in [0, 1].
    Whole numbers are tokens. All else is values of any range.

    Parameters
    ----------
    loader : DataLoader
    keys : BatchKeys
    normalize : tuple, optional
        Mean and standard deviation, each a number or one for each channel.

    Raises
    ------
    InvalidDataError
        If the inputs are bytes or outside the range that the normalisation gives, or the transforms normalise in
        several ways.
    """
    size = _size(loader.dataset)
    places = spread(size, _LOOKED_AT).tolist()
    read = [keys.split(batch)[0] for batch in _read(loader, [[index] for index in places])]
    shapes = sorted({tuple(inputs.shape[1:]) for inputs in read})
    if len(shapes) > 1:
        raise InvalidDataError(
            f"the loader gives inputs of shapes {', '.join(map(str, shapes[:3]))}; expected one shape: crop images, and"
            " pad texts to a fixed length in the data set"
        )
    inputs = torch.cat(read)
    if inputs.dtype == torch.uint8:
        raise InvalidDataError("the loader gives inputs of uint8; expected floats: convert them in the transform")
    if not inputs.is_floating_point():
        return TOKENS
    if normalize is not None:
        domain = InputDomain.normalized(*normalize)
        domain.check(inputs)
        return domain
    if (found := normalised_domain(found_normalisation(loader.dataset), inputs)) is not None:
        return found
    if inputs.ndim == 4:
        if float(inputs.min()) >= 0 and float(inputs.max()) <= 1:
            return PIXELS
        logger.warning(
            "inputs have values from %.3g to %.3g, and no normalisation was found in the transforms; methods that"
            " search within the range of pixels refuse them: say how they are normalised, as in"
            " normalize=((0.5,), (0.5,))",
            float(inputs.min()),
            float(inputs.max()),
        )
    return VALUES


def fingerprint_of(samples: SampleSet) -> str:
    """A digest of the labels, the ids, and some inputs of samples, if these are the same each time they are read."""
    digest = hashlib.sha256(samples.labels.numpy().tobytes())
    digest.update("\x1f".join(samples.ids).encode())
    view = samples.evaluated()
    if is_always_the_same(view):
        digest.update(view.batch(spread(len(view), _HASHED))[0].numpy().tobytes())
    return digest.hexdigest()


def has_samples_of(dataset: Dataset[Any], loader: DataLoader[Any], keys: BatchKeys) -> bool:
    """Whether a data set has the samples of a loader's, in their order, as far as that can be seen.

    The parts and the labels of both are compared where they have some. So are a few samples, spread over both: their
    labels, and their inputs where these are the same each time they are read.

    Parameters
    ----------
    dataset : Dataset
        The data set, map-style and of the same size.
    loader : DataLoader
        Loader whose data set is compared with ``dataset``. It makes batches of both.
    keys : BatchKeys
    """
    ours = loader.dataset
    places = spread(_size(ours), _HASHED).tolist()
    if dataset is ours or not places:
        return True
    parts = [list(each.indices) for each in (dataset, ours) if isinstance(each, Subset)]
    columns = [label_column(each, keys.label) for each in (dataset, ours)]
    if (len(parts) == 2 and parts[0] != parts[1]) or (None not in columns and columns[0] != columns[1]):
        return False

    def read(source: Any) -> tuple[Tensor, Tensor]:
        return keys.split(loader.collate_fn([source[place] for place in places]))

    (given, given_labels), (inputs, labels), (again, _) = read(dataset), read(ours), read(ours)
    return torch.equal(given_labels, labels) and (torch.equal(given, inputs) or not torch.equal(inputs, again))


def _labels(loader: DataLoader[Any], keys: BatchKeys) -> Tensor:
    """The label of every sample, from the data set's own column where that is what its batches have."""
    size = _size(loader.dataset)
    column = label_column(loader.dataset, keys.label)
    if column is not None and len(column) == size and size:
        first = {label: index for index, label in reversed(list(enumerate(column)))}
        places = sorted({*first.values(), *spread(size, _LOOKED_AT).tolist()})
        seen = [int(keys.split(batch)[1]) for batch in _read(loader, [[index] for index in places])]
        if seen == [column[index] for index in places]:
            return torch.tensor(column, dtype=torch.int64)
    step = loader.batch_size or 64
    plan = [list(range(start, min(start + step, size))) for start in range(0, size, step)]
    labels = torch.empty(size, dtype=torch.int64)
    # A small tensor that outlives each large batch would keep the memory of all of them from being used again.
    for places, batch in zip(plan, _read(loader, plan), strict=True):
        labels[places] = keys.split(batch)[1]
    return labels


def _read(loader: DataLoader[Any], plan: list[list[int]]) -> Iterator[Any]:
    workers = loader.num_workers if len(plan) > _LOOKED_AT else 0
    return iter(
        planned_loader(
            loader.dataset, plan, collate=loader.collate_fn, workers=workers, worker_init=loader.worker_init_fn
        )
    )


def _size(dataset: Dataset[Any]) -> int:
    if not isinstance(dataset, Sized):
        raise InvalidDataError(f"{type(dataset).__name__} has no length; expected a map-style dataset")
    return len(dataset)
