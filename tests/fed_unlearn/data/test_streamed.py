from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from method_cases import LiveImages, Stored, streamed
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SubsetRandomSampler

from fed_unlearn.data.images import ImageSet
from fed_unlearn.data.streamed import StreamedSet
from fed_unlearn.errors import EmptySetError, InvalidDataError


def drawn_samples(count: int) -> ImageSet:
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(count, 2, 3, 5, generator=generator)
    return ImageSet(images, torch.randint(4, (count,), generator=generator))


PLAN: list[Tensor | slice] = [slice(0, 9), slice(18, 23), torch.tensor([22, 0, 5, 5]), torch.tensor([1])]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_the_same_samples_in_memory(workers: int) -> None:
    samples = drawn_samples(23)
    found = StreamedSet(streamed(samples, workers))
    assert len(found) == 23
    assert found.image_shape == samples.image_shape == (2, 3, 5)
    assert torch.equal(found.labels, samples.labels)
    for (images, labels), (expected, expected_labels) in zip(found.batches(PLAN), samples.batches(PLAN), strict=True):
        assert torch.equal(images, expected)
        assert torch.equal(labels, expected_labels)


def test_a_batch_by_default_is_everything() -> None:
    samples = drawn_samples(9)
    images, labels = StreamedSet(streamed(samples)).batch()
    assert torch.equal(images, samples.images)
    assert torch.equal(labels, samples.labels)


def test_a_subset_of_a_subset_is_that_of_the_same_samples_in_memory() -> None:
    samples = drawn_samples(23)
    outer, inner = torch.tensor([20, 3, 3, 7, 11]), torch.tensor([4, 0, 1])
    found = StreamedSet(streamed(samples)).subset(outer).subset(inner)
    expected = samples.subset(outer[[0, 1, 3, 4]]).subset(torch.tensor([3, 0, 1]))
    assert len(found) == 3
    assert torch.equal(found.labels, expected.labels)
    assert torch.equal(found.batch()[0], expected.images)
    assert torch.equal(found.batch(torch.tensor([2]))[0], expected.images[2:])


def test_the_set_that_a_subset_is_made_of_stays_whole() -> None:
    found = StreamedSet(streamed(drawn_samples(23)))
    found.subset(torch.tensor([1, 2]))
    assert len(found) == len(found.labels) == len(found.batch()[1]) == 23


def test_the_collate_function_is_the_loaders_own() -> None:
    def brighter(items: Sequence[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
        return torch.stack([image for image, _ in items]).sqrt(), torch.tensor([9 - label for _, label in items])

    samples = drawn_samples(6)
    found = StreamedSet(DataLoader(Stored(samples), batch_size=4, collate_fn=brighter))
    assert torch.equal(found.labels, 9 - samples.labels)
    assert torch.equal(found.batch(slice(2, 4))[0], samples.images[2:4].sqrt())


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_draws_nothing_from_the_global_generator(workers: int) -> None:
    loader = streamed(drawn_samples(23), workers)
    before = torch.get_rng_state()
    list(StreamedSet(loader).batches(PLAN))
    assert torch.equal(torch.get_rng_state(), before)


def test_no_more_than_two_batches_are_held_at_once() -> None:
    # One that the reader still holds as the next one is made.
    tracker = LiveImages()
    found = StreamedSet(DataLoader(Stored(drawn_samples(100)), batch_size=8, collate_fn=tracker))
    assert (tracker.read, tracker.largest_batch, tracker.peak) == (100, 8, 16)
    for images, _ in found.batches(slice(start, start + 10) for start in range(0, 100, 10)):
        assert len(images) == 10
        assert tracker.live <= 20
    assert (tracker.read, tracker.largest_batch) == (200, 10)


def test_images_are_read_when_their_batch_is_asked_for() -> None:
    tracker = LiveImages()
    found = StreamedSet(DataLoader(Stored(drawn_samples(100)), batch_size=8, collate_fn=tracker))
    batches = found.batches(slice(start, start + 10) for start in range(0, 30, 10))
    assert tracker.read == 100
    next(batches)
    assert tracker.read == 110


class Endless(IterableDataset[tuple[Tensor, int]]):
    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        yield torch.zeros(1, 4, 4), 0


def test_an_iterable_dataset_is_refused_by_its_name() -> None:
    with pytest.raises(InvalidDataError, match="Endless: an iterable-style dataset was given"):
        StreamedSet(DataLoader(Endless()))


def test_a_dataset_without_samples_is_refused() -> None:
    with pytest.raises(EmptySetError, match="the loader's dataset has no sample"):
        StreamedSet(streamed_without_order(drawn_samples(0)))


def streamed_without_order(samples: Dataset[tuple[Tensor, int]] | ImageSet) -> DataLoader[tuple[Tensor, Tensor]]:
    dataset = Stored(samples) if isinstance(samples, ImageSet) else samples
    return DataLoader(dataset, batch_size=7)  # type: ignore[arg-type]


@pytest.mark.parametrize(("pixel", "found"), [(1.5, "1.5"), (-0.25, "-0.25"), (float("nan"), "nan")])
def test_a_pixel_out_of_range_is_refused_wherever_it_stands(pixel: float, found: str) -> None:
    samples = drawn_samples(23)
    samples.images[22, 1, 2, 4] = pixel
    with pytest.raises(InvalidDataError, match=rf"pixels from .*{found}.* expected \[0, 1\]"):
        StreamedSet(streamed(samples))


@pytest.mark.parametrize(
    ("image", "shape"),
    [
        (torch.zeros(4, 4), r"\(3, 4, 4\) and torch.float32"),
        (torch.zeros(1, 4, 4, dtype=torch.uint8), r"\(3, 1, 4, 4\) and torch.uint8"),
        (torch.zeros(1, 4, 4, dtype=torch.float64), r"\(3, 1, 4, 4\) and torch.float64"),
    ],
)
def test_batches_that_are_no_images_are_refused(image: Tensor, shape: str) -> None:
    class Others(Dataset[tuple[Tensor, int]]):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return image, 0

    with pytest.raises(InvalidDataError, match=rf"the loader gave images of shape {shape}"):
        StreamedSet(streamed_without_order(Others()))


@pytest.mark.parametrize(
    "selection",
    [
        {"sampler": SubsetRandomSampler([1, 2])},
        {"sampler": RandomSampler(range(6), replacement=True)},
        {"sampler": RandomSampler(range(6), num_samples=3)},
        {"batch_sampler": [[0, 1], [4]]},
    ],
)
def test_a_loader_that_selects_is_refused(selection: dict[str, Any]) -> None:
    samples = Stored(drawn_samples(6))
    with pytest.raises(InvalidDataError, match="a loader with a sampler of its own was given"):
        StreamedSet(DataLoader(samples, **selection))


def test_labels_are_whole_numbers_and_pairs_are_asked_for() -> None:
    image = torch.rand(1, 4, 4)
    with pytest.raises(InvalidDataError, match=r"labels of shape \(2,\) and torch.float32"):
        StreamedSet(DataLoader([(image, torch.tensor(0.5))] * 2, batch_size=2))
    with pytest.raises(InvalidDataError, match="batches of type dict"):
        StreamedSet(DataLoader([{"image": image, "label": 1}], batch_size=1))
    [(_, labels)] = StreamedSet(DataLoader([(image, torch.tensor(2, dtype=torch.int32))])).batches([slice(None)])
    assert (labels.dtype, labels.tolist()) == (torch.int64, [2])
