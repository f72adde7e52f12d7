"""Loaders like an app's own, over other samples."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from fed_unlearn.client.loaders.copies import check_loader, same_loader
from fed_unlearn.errors import InvalidDataError


def numbers(count: int) -> TensorDataset:
    return TensorDataset(torch.arange(count))


def batches_of(loader: DataLoader) -> list[list[int]]:
    return [batch[0].tolist() for batch in loader]


@pytest.mark.parametrize(
    "count, sizes", [(12, [4, 4, 4]), (13, [4, 4, 5]), (14, [4, 4, 4, 2]), (1, [1]), (5, [5]), (0, [])]
)
@pytest.mark.parametrize("shuffle", [False, True])
def test_every_sample_once_and_no_batch_of_one(count: int, sizes: list[int], shuffle: bool) -> None:
    loader = same_loader(DataLoader(numbers(40), batch_size=4, shuffle=shuffle), numbers(count))
    for _ in range(2):
        batches = batches_of(loader)
        assert [len(batch) for batch in batches] == sizes and len(loader) == len(sizes)
        assert sorted(index for batch in batches for index in batch) == list(range(count))
    check_loader(loader)
    assert loader.batch_size == 4
    assert [len(batch) for batch in batches_of(same_loader(loader, numbers(9)))] == [4, 5]


def test_everything_else_is_kept() -> None:
    def doubled(items: list) -> torch.Tensor:
        return torch.stack([item[0] * 2 for item in items])

    given = DataLoader(numbers(40), batch_size=3, drop_last=True, collate_fn=doubled, timeout=0)
    assert [batch.tolist() for batch in same_loader(given, numbers(4))] == [[0, 2, 4]]
    assert len(same_loader(given, numbers(4)).dataset) == 4
    assert batches_of(same_loader(DataLoader(numbers(9)), numbers(2))) == [[0], [1]]


def test_the_order_comes_from_the_generator() -> None:
    given = DataLoader(numbers(40), batch_size=4, shuffle=True)
    first, second, other = (
        batches_of(same_loader(given, numbers(13), generator=torch.Generator().manual_seed(seed))) for seed in (1, 1, 2)
    )
    assert first == second != other
    state = torch.random.get_rng_state()
    batches_of(same_loader(given, numbers(13), generator=torch.Generator().manual_seed(1)))
    assert torch.equal(state, torch.random.get_rng_state())


class Endless(IterableDataset):
    def __iter__(self):
        return iter(range(3))


@pytest.mark.parametrize(
    "loader, said",
    [
        (DataLoader(Endless()), "Endless, an iterable-style dataset"),
        (DataLoader(numbers(4), sampler=SubsetRandomSampler([0, 1])), "SubsetRandomSampler"),
        (DataLoader(numbers(4), sampler=WeightedRandomSampler([1, 1, 1, 1], 4)), "WeightedRandomSampler"),
        (DataLoader(numbers(4), batch_sampler=[[0, 1], [2, 3]]), "list"),
        (DataLoader(numbers(4), sampler=RandomSampler(numbers(4), num_samples=2)), "draws 2 of 4"),
        (DataLoader(numbers(4), batch_size=None), "without batches"),
    ],
)
def test_loaders_that_choose_by_themselves_are_refused(loader: DataLoader, said: str) -> None:
    with pytest.raises(InvalidDataError) as caught:
        check_loader(loader)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_the_only_batch_is_not_dropped() -> None:
    given = DataLoader(numbers(40), batch_size=4, drop_last=True)
    assert batches_of(same_loader(given, numbers(3))) == [[0, 1, 2]]
    assert batches_of(same_loader(given, numbers(1))) == [[0]]
    assert batches_of(same_loader(given, numbers(6))) == [[0, 1, 2, 3]]


def test_a_loader_with_an_iteration_of_its_own_is_refused() -> None:
    class Halving(DataLoader):
        def __iter__(self):  # type: ignore[no-untyped-def]
            return (batch[0] / 2 for batch in super().__iter__())

    class Named(DataLoader):
        pass

    check_loader(Named(numbers(4)))
    with pytest.raises(InvalidDataError, match="a Halving, a loader with an __iter__ of its own, was given"):
        check_loader(Halving(numbers(4)))
