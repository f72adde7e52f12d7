"""A client's samples from the loaders of an app."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader

from fed_unlearn.client.loaders.batches import BatchKeys, Key
from fed_unlearn.client.loaders.columns import class_names_of
from fed_unlearn.client.loaders.copies import check_loader
from fed_unlearn.client.loaders.reading import Memory, domain_of, fingerprint_of, first_batch, samples_of
from fed_unlearn.data.domain import InputDomain
from fed_unlearn.data.evaluation import with_transform
from fed_unlearn.data.images import ClientData
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidDataError, InvalidParameterError
from fed_unlearn.holder import halves
from fed_unlearn.seeding import seeded_generator

logger = logging.getLogger("fed_unlearn.client")

_CUT_OFF = 0.2
"""Share of the training samples that is set aside where an app holds none out."""


@dataclass(frozen=True)
class Reading:
    """How the loaders of an app are read. The attributes are the parameters of ``LoaderTask``.

    Raises
    ------
    InvalidParameterError
        If ``class_count`` is below 2, or ``normalize`` is not a mean and a standard deviation.
    """

    class_count: int
    normalize: tuple[Any, Any] | None = None
    input_key: Key | None = None
    label_key: Key | None = None
    evaluate_transform: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        if self.class_count < 2:
            raise InvalidParameterError(f"class_count = {self.class_count} was given; expected at least 2")
        if self.normalize is None:
            return
        try:
            mean, std = self.normalize
            InputDomain.normalized(mean, std)
        except (TypeError, ValueError) as error:
            raise InvalidParameterError(
                f"normalize = {self.normalize!r} was given ({error}); expected mean and standard deviation, each a"
                " number or one for each channel, as in ((0.5,), (0.5,))"
            ) from None


@dataclass(frozen=True)
class LoadedClient:
    """What is kept of a client.

    Attributes
    ----------
    loader : DataLoader
        The app's own, of training samples.
    keys : BatchKeys
    data : ClientData
    ids : tuple of str
        Ids of all samples of the training loader, those that were set aside included.
    held_bytes : int
        Bytes of the inputs that are in memory.
    other_columns : frozenset of str
        Names of what else a batch has.
    """

    loader: DataLoader[Any]
    keys: BatchKeys
    data: ClientData
    ids: tuple[str, ...]
    held_bytes: int
    other_columns: frozenset[str]


def read_loaders(given: object, reading: Reading, client: str, memory: Memory) -> LoadedClient:
    """Read what an app's function of loaders gives.

    Parameters
    ----------
    given : object
        A loader of training samples; or a sequence of it and one of held-out samples, or one each for validation and
        test. Held-out loaders without samples count as none.
    reading : Reading
    client : str
        Name of the client.
    memory : Memory
        What is left of it.

    Raises
    ------
    InvalidDataError
        If the loaders cannot be read, in one line that says why.
    """
    left = memory.left
    try:
        return _read(given, reading, client, memory)
    except BaseException:
        memory.left = left  # nobody keeps what was read before the error
        raise


def _read(given: object, reading: Reading, client: str, memory: Memory) -> LoadedClient:
    loader, held_out = _parts(given)
    for part in (loader, *held_out):
        check_loader(part)
    batch = first_batch(loader)
    keys = BatchKeys.of(batch, input_key=reading.input_key, label_key=reading.label_key)
    domain = domain_of(loader, keys, reading.normalize)
    plain = None
    if reading.evaluate_transform is not None:
        plain = with_transform(loader.dataset, reading.evaluate_transform)
    left = memory.left
    samples: SampleSet = samples_of(loader, keys, domain, evaluation=plain, memory=memory)
    held: list[SampleSet] = [samples_of(part, keys, domain, memory=memory) for part in held_out]
    _check_labels([samples, *held], reading.class_count)
    ids, fingerprint = samples.ids, fingerprint_of(samples)
    if not held:
        samples, aside = _cut(samples, client)
        held = [aside]
    validation, test = held if len(held) == 2 else halves(held[0])
    names = class_names_of(loader.dataset, keys.label, reading.class_count)
    data = ClientData(samples, validation, test, reading.class_count, fingerprint, class_names=names)
    return LoadedClient(loader, keys, data, ids, left - memory.left, keys.others_in(batch))


def _parts(given: object) -> tuple[DataLoader[Any], list[DataLoader[Any]]]:
    """The loader of training samples, and those of held-out samples that have some."""
    parts: list[Any] = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    if not 1 <= len(parts) <= 3 or not all(isinstance(part, DataLoader) for part in parts):
        kinds = ", ".join(type(part).__name__ for part in parts)
        raise InvalidDataError(
            f"the task's loaders: {kinds or 'nothing'} was given; expected a DataLoader of training samples, and if"
            " there are some one of held-out samples, or one for validation and one for test"
        )
    return parts[0], [part for part in parts[1:] if _has_samples(part)]


def _has_samples(loader: DataLoader[Any]) -> bool:
    size = getattr(loader.dataset, "__len__", None)
    return size is None or size() > 0


def _cut(samples: SampleSet, client: str) -> tuple[SampleSet, SampleSet]:
    order = torch.randperm(len(samples), generator=seeded_generator("set aside", client))
    count = round(_CUT_OFF * len(samples))
    logger.warning(
        "client %s holds no samples out; %d of its %d training samples are set aside for validation and test, and are"
        " not trained on: give a loader of held-out samples to train on all",
        client,
        count,
        len(samples),
    )
    return samples.subset(order[count:].sort().values), samples.subset(order[:count].sort().values)


def _check_labels(parts: Sequence[SampleSet], class_count: int) -> None:
    for part in parts:
        outside = sorted({int(label) for label in part.labels.unique() if not 0 <= label < class_count})
        if outside:
            raise InvalidDataError(
                f"the task's loaders: labels {outside[:5]} were read; expected 0 to {class_count - 1}, as class_count ="
                f" {class_count} says: number the labels from 0, or give a class_count above the largest label, with as"
                " many outputs of the model"
            )
