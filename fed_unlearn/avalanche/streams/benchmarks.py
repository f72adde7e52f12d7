"""Benchmarks that split training samples into experiences, by class or at random.

The two splits are those of the continual-learning literature (Lomonaco et al., 2021, "Avalanche: an end-to-end library
for continual learning"). Class-incremental: each experience brings new classes. New-instances: each experience brings
new samples of all classes. Avalanche's own generators of these names are not used: they reseed torch's global
generator, and drop classes if the experiences do not divide them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from avalanche.benchmarks.scenarios import CLScenario, benchmark_from_datasets, with_classes_timeline
from avalanche.benchmarks.utils import AvalancheDataset
from torch import Tensor

from fed_unlearn.avalanche.streams.naming import require_once
from fed_unlearn.avalanche.streams.samples import attribute_values, sample_ids
from fed_unlearn.data.experiences import class_split
from fed_unlearn.errors import InvalidDataError, InvalidParameterError
from fed_unlearn.seeding import seeded_generator


def class_incremental(
    train: AvalancheDataset,
    test: AvalancheDataset,
    *,
    experiences: int,
    seed: int,
    class_order: Sequence[int] | None = None,
    class_count: int | None = None,
) -> CLScenario:
    """Return a benchmark in which each training and test experience brings new classes.

    Parameters
    ----------
    train, test : AvalancheDataset
        Data sets with targets and sample ids.
    experiences : int
        Number of experiences, at most the number of classes. If it does not divide the number of classes, the first
        experiences bring one class more.
    seed : int
        Seed of the order of classes, if none is given. Global generators are not used.
    class_order : sequence of int, optional
        Every class once, in the order of arrival.
    class_count : int, optional
        Classes are 0 to ``class_count`` - 1. Default: the largest label of both data sets plus 1.

    Returns
    -------
    CLScenario
        The benchmark. It has a ``train_stream`` and a ``test_stream``. Samples are in the order of the data sets.

    Raises
    ------
    InvalidParameterError
        If there are more experiences than classes, or ``class_order`` does not name every class once.
    InvalidDataError
        If a label is not one of the classes.
    """
    labels = _labels_of(train), _labels_of(test)
    largest = max((int(found.max()) for found in labels if len(found)), default=-1)
    classes = class_count if class_count is not None else largest + 1
    if largest >= classes:
        raise InvalidDataError(f"a label {largest} was given; expected 0 to {classes - 1}")
    split = class_split(classes, experiences, seed, class_order)
    train_parts, test_parts = (
        [_part(dataset, torch.isin(found, torch.tensor(part))) for part in split]
        for dataset, found in zip((train, test), labels, strict=True)
    )
    return with_classes_timeline(benchmark_from_datasets(train=train_parts, test=test_parts))


def new_instances(train: AvalancheDataset, test: AvalancheDataset, *, experiences: int, seed: int) -> CLScenario:
    """Return a benchmark in which each training experience brings an equal random share of the samples.

    Parameters
    ----------
    train, test : AvalancheDataset
        Data sets with targets and sample ids.
    experiences : int
        Number of experiences, at least 1. If it does not divide the number of samples, the first experiences bring one
        sample more.
    seed : int
        Seed of the draw. Global generators are not used.

    Returns
    -------
    CLScenario
        The benchmark. Its ``train_stream`` has the samples in the order of the data set. Its ``test_stream`` is one
        experience with all test samples.

    Raises
    ------
    InvalidParameterError
        If ``experiences`` is less than 1.
    """
    if experiences < 1:
        raise InvalidParameterError(f"{experiences} experiences were asked for; expected at least 1")
    shuffled = torch.randperm(len(train), generator=seeded_generator(seed, "new-instances"))
    numbers = torch.empty(len(train), dtype=torch.int64)
    numbers[shuffled] = torch.arange(len(train)) % experiences
    shares = [_part(train, numbers == number) for number in range(experiences)]
    return with_classes_timeline(benchmark_from_datasets(train=shares, test=[test]))


def experience_ids(benchmark: CLScenario) -> tuple[tuple[str, ...], ...]:
    """Return the sample ids of each training experience of a benchmark.

    Parameters
    ----------
    benchmark : CLScenario
        The benchmark. It has a ``train_stream`` whose samples have ids.

    Returns
    -------
    tuple of tuples of str
        Ids by experience, in the order of the samples.

    Raises
    ------
    InvalidDataError
        If this is no benchmark, a sample has no id, or a sample comes twice.
    """
    if not isinstance(benchmark, CLScenario) or "train" not in benchmark.streams:
        raise InvalidDataError(
            f"a {type(benchmark).__name__} was given; expected an Avalanche benchmark, a CLScenario with a train_stream"
        )
    found: list[tuple[str, ...]] = []
    for number, experience in enumerate(benchmark.streams["train"], start=1):
        try:
            found.append(sample_ids(experience.dataset))
        except InvalidDataError as error:
            raise InvalidDataError(f"experience {number} of the train stream: {error}") from error
    if not found:
        raise InvalidDataError("the benchmark's train stream has no experience; expected at least one")
    require_once("train", found, first=1)
    return tuple(found)


def _labels_of(dataset: AvalancheDataset) -> Tensor:
    return torch.tensor(attribute_values(dataset, "targets"), dtype=torch.int64)


def _part(dataset: AvalancheDataset, chosen: Tensor) -> AvalancheDataset:
    return dataset.subset(chosen.nonzero().flatten().tolist())
