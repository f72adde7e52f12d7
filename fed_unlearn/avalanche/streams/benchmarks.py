"""Benchmarks of a federation: training samples that arrive in experiences, split as the scenarios' names say.

The two ways of dividing samples are those of the continual-learning literature (Lomonaco et al., 2021, "Avalanche: an
end-to-end library for continual learning"): class-incremental, where each experience brings new classes, and
new-instances, where each brings new samples of all classes. Avalanche's own generators of these names reseed torch's
global generator, and drop classes that the experiences do not divide; here the order is given to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from avalanche.benchmarks.scenarios import CLScenario, benchmark_from_datasets, with_classes_timeline
from avalanche.benchmarks.utils import AvalancheDataset
from torch import Tensor

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
    """A benchmark each of whose experiences brings new classes, in the training and in the test stream.

    Parameters
    ----------
    train, test : AvalancheDataset
        With targets and sample ids.
    experiences : int
        In 1 to the number of classes. Where they do not divide the classes, the first ones bring one class more.
    seed : int
        Of the order of classes where none is given; global generators are left alone.
    class_order : sequence of int, optional
        Every class once, in the order in which they arrive.
    class_count : int, optional
        Classes are 0 to ``class_count`` - 1; as many as the largest label of either dataset says where not given.

    Returns
    -------
    CLScenario
        With a ``train_stream`` and a ``test_stream`` of so many experiences each, samples in the order of the datasets.

    Raises
    ------
    InvalidParameterError
        If there are more experiences than classes, or the order is not one of all classes.
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
    """A benchmark each of whose training experiences brings an equal random share of the samples, of any class.

    Parameters
    ----------
    train, test : AvalancheDataset
        With targets and sample ids.
    experiences : int
        At least 1. Where they do not divide the samples, the first ones bring one sample more.
    seed : int
        Of the draw; global generators are left alone.

    Returns
    -------
    CLScenario
        With a ``train_stream`` of so many experiences, samples in the order of the dataset, and a ``test_stream`` of
        one: all test samples.

    Raises
    ------
    InvalidParameterError
        If there is no experience.
    """
    if experiences < 1:
        raise InvalidParameterError(f"{experiences} experiences were asked for; expected at least 1")
    shuffled = torch.randperm(len(train), generator=seeded_generator(seed, "new-instances"))
    numbers = torch.empty(len(train), dtype=torch.int64)
    numbers[shuffled] = torch.arange(len(train)) % experiences
    shares = [_part(train, numbers == number) for number in range(experiences)]
    return with_classes_timeline(benchmark_from_datasets(train=shares, test=[test]))


def experience_ids(benchmark: CLScenario) -> tuple[tuple[str, ...], ...]:
    """The ids of the samples of each training experience of a benchmark, in order.

    Parameters
    ----------
    benchmark : CLScenario
        Any with a ``train_stream`` whose samples have ids.

    Returns
    -------
    tuple of tuples of str
        One entry an experience.

    Raises
    ------
    InvalidDataError
        If it is no benchmark, a sample has no id, or one comes in two experiences or twice in one.
    """
    if not isinstance(benchmark, CLScenario) or "train" not in benchmark.streams:
        raise InvalidDataError(
            f"a {type(benchmark).__name__} was given; expected an Avalanche benchmark, a CLScenario with a train_stream"
        )
    found: list[tuple[str, ...]] = []
    seen: dict[str, int] = {}
    for number, experience in enumerate(benchmark.streams["train"], start=1):
        try:
            ids = sample_ids(experience.dataset)
        except InvalidDataError as error:
            raise InvalidDataError(f"experience {number} of the train stream: {error}") from error
        for sample_id in ids:
            if sample_id in seen:
                before = seen[sample_id]
                where = f"in experiences {before} and {number}" if before != number else f"twice in experience {number}"
                raise InvalidDataError(f"sample {sample_id!r} comes {where}; expected each in at most one, once")
            seen[sample_id] = number
        found.append(ids)
    if not found:
        raise InvalidDataError("the benchmark's train stream has no experience; expected at least one")
    return tuple(found)


def _labels_of(dataset: AvalancheDataset) -> Tensor:
    return torch.tensor(attribute_values(dataset, "targets"), dtype=torch.int64)


def _part(dataset: AvalancheDataset, chosen: Tensor) -> AvalancheDataset:
    return dataset.subset(chosen.nonzero().flatten().tolist())
