"""Benchmarks of a federation: who comes when, by the labels and ids of the samples alone."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.scenarios import CLScenario, CLStream, DatasetExperience
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.training import Naive

from fed_unlearn.avalanche.streams.benchmarks import class_incremental, experience_ids, new_instances
from fed_unlearn.avalanche.streams.samples import as_avalanche_dataset, sample_ids
from fed_unlearn.data.experiences import class_split
from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import InvalidDataError, InvalidParameterError

LABELS = torch.tensor([4, 0, 2, 2, 1, 3, 0, 4, 6, 5, 6, 1])


def images(labels: torch.Tensor, prefix: str = "s") -> AvalancheDataset:
    pixels = torch.rand(len(labels), 1, 2, 2, generator=torch.Generator().manual_seed(0))
    return as_avalanche_dataset(ImageSet(pixels, labels, [f"{prefix}{index}" for index in range(len(labels))]))


@pytest.fixture
def train() -> AvalancheDataset:
    return images(LABELS)


@pytest.fixture
def test() -> AvalancheDataset:
    return images(torch.arange(7).repeat(2), "t")


def of_classes(labels: torch.Tensor, classes: tuple[int, ...], prefix: str = "s") -> tuple[str, ...]:
    return tuple(f"{prefix}{index}" for index, label in enumerate(labels.tolist()) if label in classes)


@pytest.mark.parametrize(("experiences", "seed", "order"), [(3, 0, None), (7, 4, None), (1, 2, None), (3, 9, [6, 5, 4, 3, 2, 1, 0])])  # fmt: skip
def test_every_class_comes_with_one_experience_of_both_streams(
    train: AvalancheDataset, test: AvalancheDataset, experiences: int, seed: int, order: list[int] | None
) -> None:
    benchmark = class_incremental(train, test, experiences=experiences, seed=seed, class_order=order)
    split = class_split(7, experiences, seed, order)
    if order:
        assert split == ((4, 5, 6), (2, 3), (0, 1))  # seven classes do not divide by three: the first brings one more
    assert experience_ids(benchmark) == tuple(of_classes(LABELS, classes) for classes in split)
    held = [sample_ids(experience.dataset) for experience in benchmark.test_stream]
    assert held == [of_classes(torch.arange(7).repeat(2), classes, "t") for classes in split]
    assert [set(experience.classes_in_this_experience) for experience in benchmark.train_stream] == [*map(set, split)]
    assert [number.current_experience for number in benchmark.train_stream] == list(range(experiences))


def test_a_class_without_samples_leaves_its_experience_empty(test: AvalancheDataset) -> None:
    benchmark = class_incremental(images(torch.tensor([0, 2])), test, experiences=3, seed=0, class_order=range(7))
    assert experience_ids(benchmark) == (("s0", "s1"), (), ())
    whole = class_incremental(images(torch.tensor([0, 2])), images(torch.tensor([1])), experiences=4, seed=3, class_count=4)  # fmt: skip
    assert experience_ids(whole) == tuple(of_classes(torch.tensor([0, 2]), part) for part in class_split(4, 4, 3))


def test_new_instances_are_equal_random_shares(test: AvalancheDataset) -> None:
    train = images(torch.arange(503) % 5)
    benchmark = new_instances(train, test, experiences=5, seed=1)
    shares = experience_ids(benchmark)
    assert [len(share) for share in shares] == [101, 101, 101, 100, 100]
    assert sorted(sample_id for share in shares for sample_id in share) == sorted(sample_ids(train))
    assert all(list(share) == sorted(share, key=lambda sample_id: int(sample_id[1:])) for share in shares)
    assert [sample_ids(experience.dataset) for experience in benchmark.test_stream] == [sample_ids(test)]
    assert shares == experience_ids(new_instances(train, test, experiences=5, seed=1))
    other = experience_ids(new_instances(train, test, experiences=5, seed=2))
    agreeing = sum(len(set(one) & set(two)) for one, two in zip(shares, other, strict=True))
    # Independent draws agree on one sample in five: within four standard deviations of 503 * 0.2.
    assert abs(agreeing - 100.6) < 4 * (503 * 0.2 * 0.8) ** 0.5
    # A class of 101 is spread over all experiences, 20 each, hypergeometric with deviation 3.6.
    for experience in benchmark.train_stream:
        assert all(abs(count - 20) < 15 for count in Counter(list(experience.dataset.targets)).values())


def test_no_global_generator_is_touched(train: AvalancheDataset, test: AvalancheDataset) -> None:
    def states() -> tuple[object, ...]:
        return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]

    before = states()
    class_incremental(train, test, experiences=3, seed=5)
    new_instances(train, test, experiences=3, seed=5)
    assert states() == before


@pytest.mark.filterwarnings("ignore:No loggers specified")
def test_a_strategy_of_avalanche_trains_on_them(train: AvalancheDataset, test: AvalancheDataset) -> None:
    for benchmark in (
        class_incremental(train, test, experiences=3, seed=5),
        new_instances(train, test, experiences=3, seed=5),
    ):
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 7))
        seen: list[int] = []
        strategy = Naive(model=model, optimizer=torch.optim.SGD(model.parameters(), 0.1), train_mb_size=4, evaluator=None)  # fmt: skip
        for experience in benchmark.train_stream:
            strategy.train(experience)
            seen.append(strategy.clock.train_exp_iterations)
        assert seen == [-(-len(experience.dataset) // 4) for experience in benchmark.train_stream]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda train, test: class_incremental(train, test, experiences=8, seed=0), InvalidParameterError, "8 class-incremental experiences of 7 classes were asked for; expected 1 to 7"),
        (lambda train, test: class_incremental(train, test, experiences=2, seed=0, class_order=[0, 1]), InvalidParameterError, r"class order \[0, 1\] was given"),
        (lambda train, test: class_incremental(train, test, experiences=2, seed=0, class_count=5), InvalidDataError, "a label 6 was given; expected 0 to 4"),
        (lambda train, test: new_instances(train, test, experiences=0, seed=0), InvalidParameterError, "0 experiences were asked for; expected at least 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(
    train: AvalancheDataset,
    test: AvalancheDataset,
    make: Callable[[AvalancheDataset, AvalancheDataset], CLScenario],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        make(train, test)


def test_ids_of_experiences_are_read_from_any_benchmark(train: AvalancheDataset, test: AvalancheDataset) -> None:
    parts = [train.subset([5, 3]), train.subset([0])]
    lazy = CLStream("train", (DatasetExperience(dataset=part) for part in parts))  # a stream without a length
    for benchmark in (benchmark_from_datasets(train=parts, test=[test]), CLScenario([lazy])):
        assert experience_ids(benchmark) == (("s5", "s3"), ("s0",))


@pytest.mark.parametrize(
    ("benchmark", "message"),
    [
        (lambda train: (train, train), "a tuple was given; expected an Avalanche benchmark, a CLScenario with a train_stream"),
        (lambda train: benchmark_from_datasets(test=[train]), "a CLScenario was given; expected an Avalanche benchmark"),
        (lambda train: benchmark_from_datasets(train=[], test=[train]), "train stream has no experience"),
        (lambda train: benchmark_from_datasets(train=[train.subset([0, 1]), train.subset([2, 1])]), "sample 's1' comes in experiences 1 and 2 of the train stream; expected each sample at most once"),
        (lambda train: benchmark_from_datasets(train=[train.subset([0, 1, 0])]), "sample 's0' comes twice in experience 1"),
        (lambda train: benchmark_from_datasets(train=[train, AvalancheDataset([[(0, 1)]])]), "experience 2 of the train stream: a data set of 1 samples without sample ids"),
    ],
)  # fmt: skip
def test_a_benchmark_whose_samples_cannot_be_told_apart_is_refused(
    train: AvalancheDataset, benchmark: Callable[[AvalancheDataset], object], message: str
) -> None:
    with pytest.raises(InvalidDataError, match=message):
        experience_ids(benchmark(train))
