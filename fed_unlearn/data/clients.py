"""The data of each client: its partition, and what of it is for training, validation and test."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fed_unlearn.class_names import ClassNames
from fed_unlearn.data.images import ClientData, ImageSet
from fed_unlearn.data.partitions import partition_indices
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.seeding import seeded_generator


@dataclass(frozen=True, eq=False)
class ImageSource:
    """A labelled image data set with its training and test parts.

    Attributes
    ----------
    train, test : ImageSet
        The samples. Labels are 0 to ``class_count`` - 1. Ids are those of the source's owner if there are any, else
        the index in the source's split.
    class_names : tuple of str
        Name of each class. The label itself if the source has no names.
    fingerprint : str
        SHA-256 of the content: images, labels and ids. A changed source has another fingerprint.
    """

    train: ImageSet
    test: ImageSet
    class_names: tuple[str, ...]
    fingerprint: str

    @property
    def class_count(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def classes(self) -> ClassNames:
        """The names of the classes, by which requests call them."""
        return ClassNames(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        return self.train.image_shape


def set_aside(source: ImageSource, fraction: float) -> tuple[ImageSource, ImageSet]:
    """Take some training samples out of a data set before it is divided, for the server to keep.

    Parameters
    ----------
    source : ImageSource
        The data set.
    fraction : float in [0, 1)
        Share of the training samples. It is taken from each class in proportion, and is the same for every seed.

    Returns
    -------
    tuple of ImageSource and ImageSet
        The data set without these samples, and the samples. The data set itself where ``fraction`` is 0.

    Raises
    ------
    InvalidParameterError
        If the fraction is out of range.
    """
    if not 0 <= fraction < 1:
        raise InvalidParameterError(f"fraction: {fraction} was given; expected a number from 0 to below 1")
    kept, taken = _split(source.train.labels, fraction, (0, "server"))
    if not len(taken):
        return source, source.train.subset(taken)
    rest = hashlib.sha256(f"{source.fingerprint} without {fraction}".encode()).hexdigest()
    return replace(source, train=source.train.subset(kept), fingerprint=rest), source.train.subset(taken)


CACHED_PARTITIONS = 8
_partitions: OrderedDict[tuple[object, ...], tuple[Tensor, ...]] = OrderedDict()


def client_data(
    source: ImageSource,
    client: int,
    count: int,
    *,
    partition: str = "iid",
    parameters: Mapping[str, object] | None = None,
    validation_fraction: float = 0.1,
    seed: int = 0,
) -> ClientData:
    """The data of one client: its part of the training samples, and an equal share of the test samples.

    Test samples are divided at random and without overlap, so that counts summed over all clients are those of the
    whole test set.

    Parameters
    ----------
    source : ImageSource
        The data set that is divided.
    client : int
        Number of the client, from 0 to ``count`` - 1.
    count : int
        Number of clients.
    partition : str, default "iid"
        Name of the partitioner, as in :func:`fed_unlearn.data.partitions.partition_indices`.
    parameters : mapping of str to object, optional
        Arguments of the partitioner.
    validation_fraction : float in [0, 1), default 0.1
        Share of the client's training samples that become validation samples, by which the gate judges. It is taken
        from each class in proportion.
    seed : int, default 0
        Seed of all draws.

    Returns
    -------
    ClientData

    Raises
    ------
    InvalidParameterError
        If a number is out of range, or the partitioner cannot divide the samples.
    """
    train, validation = _parts(source, client, count, partition, parameters or {}, validation_fraction, seed)
    order = torch.randperm(len(source.test), generator=seeded_generator(seed, "test-share"))
    return ClientData(
        train=source.train.subset(train),
        validation=source.train.subset(validation),
        test=source.test.subset(order[client::count].sort().values),
        class_count=source.class_count,
        fingerprint=source.fingerprint,
        class_names=source.class_names,
    )


def training_positions(
    source: ImageSource,
    count: int,
    *,
    partition: str = "iid",
    parameters: Mapping[str, object] | None = None,
    validation_fraction: float = 0.1,
    seed: int = 0,
) -> list[Tensor]:
    """Positions of each client's training samples in the source, as :func:`client_data` divides it.

    Parameters and errors are those of :func:`client_data`.

    Returns
    -------
    list of Tensor, int64
        Positions of each client's samples in ``source.train``, in the order of the client's ``train``.
    """
    divided = (count, partition, parameters or {}, validation_fraction, seed)
    return [_parts(source, client, *divided)[0] for client in range(count)]


def _parts(
    source: ImageSource,
    client: int,
    count: int,
    partition: str,
    parameters: Mapping[str, object],
    validation_fraction: float,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Positions of a client's training and validation samples in the source."""
    if not 0 <= client < count:
        raise InvalidParameterError(f"client {client} does not exist; expected 0 to {count - 1}")
    if not 0 <= validation_fraction < 1:
        raise InvalidParameterError(
            f"validation_fraction: {validation_fraction} was given; expected a number from 0 to below 1"
        )
    held = _partition(source, count, partition, parameters, seed)[client]
    kept, validation = _split(source.train.labels[held], validation_fraction, (seed, "validation", client))
    return held[kept], held[validation]


def _partition(
    source: ImageSource, count: int, name: str, parameters: Mapping[str, object], seed: int
) -> tuple[Tensor, ...]:
    key = (source.fingerprint, count, name, repr(sorted(parameters.items())), seed)
    if key not in _partitions:
        _partitions[key] = partition_indices(source.train.labels, count, name=name, parameters=parameters, seed=seed)
        while len(_partitions) > CACHED_PARTITIONS:
            _partitions.popitem(last=False)
    return _partitions[key]


def _split(labels: Tensor, fraction: float, seed: tuple[str | int, ...]) -> tuple[Tensor, Tensor]:
    """Positions of the kept and of the validation samples.

    Samples are shuffled and sorted by class, and validation samples are taken at equal distances. Their number in each
    class is exact to within one sample.
    """
    shuffled = torch.randperm(len(labels), generator=seeded_generator(*seed))
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    wanted = min(round(len(labels) * fraction), max(len(labels) - 1, 0))
    chosen = ((torch.arange(wanted) + 0.5) * len(labels) / max(wanted, 1)).long()
    mask = torch.zeros(len(labels), dtype=torch.bool)
    mask[by_class[chosen]] = True
    return (~mask).nonzero().flatten(), mask.nonzero().flatten()
