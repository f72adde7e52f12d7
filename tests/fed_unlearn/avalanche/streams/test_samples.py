"""Sample ids on Avalanche's data sets: that they stay with their samples, whatever is done to these."""

from __future__ import annotations

import pytest
import torch
from avalanche.benchmarks import class_incremental_benchmark, nc_benchmark
from avalanche.benchmarks.utils import AvalancheDataset, DataAttribute, as_classification_dataset
from avalanche.benchmarks.utils.classification_dataset import ClassificationDataset
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_benchmarks import CLASSES, Numbered, numbered, shown
from torch import Tensor

from fed_unlearn.avalanche.streams.reading import as_samples
from fed_unlearn.avalanche.streams.samples import (
    SAMPLE_ID,
    as_avalanche_dataset,
    attribute_values,
    has_sample_ids,
    sample_ids,
    with_sample_ids,
    without,
)
from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import EmptySetError, InvalidDataError


def image_set(count: int = 12, first: int = 0) -> ImageSet:
    """Bytes; image, id and label of a sample all tell its number."""
    numbers = torch.arange(first, first + count)
    images = numbers.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 3, 3).contiguous()
    return ImageSet(images, numbers % CLASSES, [f"s{number}" for number in numbers.tolist()])


def one_by_one(dataset: AvalancheDataset) -> tuple[list[Tensor], list[int]]:
    read = dataset.eval()
    return [read[index][0] for index in range(len(read))], [int(read[index][1]) for index in range(len(read))]


class Unreadable(ImageSet):
    """Tensors that can be indexed, and samples that cannot be read one by one."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        raise AssertionError("read one by one")


@st.composite
def views(draw: st.DrawFn) -> AvalancheDataset:
    """Subsets and concatenations, one of the other, of two sets of images."""
    known = [as_avalanche_dataset(image_set(12)), as_avalanche_dataset(image_set(9, first=100))]
    for _ in range(draw(st.integers(0, 5))):
        first, second = draw(st.sampled_from(known)), draw(st.sampled_from(known))
        if draw(st.booleans()):
            known.append(first.concat(second))
        else:
            known.append(first.subset(draw(st.lists(st.integers(0, len(first) - 1), min_size=1, max_size=8))))
    return known[-1]


@settings(max_examples=60, deadline=None)
@given(views())
def test_an_id_stays_with_its_sample_through_subsets_and_concatenations(view: AvalancheDataset) -> None:
    assert sample_ids(view) == tuple(f"s{number}" for number in shown(view))
    assert attribute_values(view, "targets") == list(view.targets) == [number % CLASSES for number in shown(view)]
    assert list(sample_ids(view)) == attribute_values(view, SAMPLE_ID) == list(getattr(view, SAMPLE_ID))


@settings(max_examples=60, deadline=None)
@given(views())
def test_tensors_are_what_reading_one_by_one_gives(view: AvalancheDataset) -> None:
    distinct = view.subset([sample_ids(view).index(name) for name in dict.fromkeys(sample_ids(view))])
    images = as_samples(distinct)
    expected, labels = one_by_one(distinct)
    read, _ = images.batch()
    assert read.dtype == torch.float32 and torch.equal(read, torch.stack(expected))
    assert images.labels.tolist() == labels and images.ids == sample_ids(distinct)


def test_a_view_of_tensors_is_indexed_and_keeps_its_bytes() -> None:
    base = image_set(12)
    dataset = as_avalanche_dataset(Unreadable(base.images, base.labels, base.ids)).subset([7, 3, 11])
    images = as_samples(dataset)
    assert images.images.dtype == torch.uint8
    assert images.images[:, 0, 0, 0].tolist() == [7, 3, 11] and images.ids == ("s7", "s3", "s11")
    assert len(as_samples(dataset.subset([]))) == 0


ORDER = [4, 2, 0, 1, 3, 5]


def test_ids_go_through_the_generators_of_avalanche() -> None:
    dataset = as_avalanche_dataset(image_set(24))
    for benchmark in (
        nc_benchmark(dataset, dataset, 3, False, fixed_class_order=ORDER),
        class_incremental_benchmark({"train": dataset, "test": dataset}, num_experiences=3, class_order=ORDER),
    ):
        named = [name for experience in benchmark.train_stream for name in sample_ids(experience.dataset)]
        assert named == [f"s{number}" for experience in benchmark.train_stream for number in shown(experience.dataset)]
        assert sorted(named) == sorted(sample_ids(dataset))


@pytest.mark.parametrize("from_zero", [False, True])
def test_labels_are_those_that_are_trained_on(from_zero: bool) -> None:
    dataset = as_avalanche_dataset(image_set(24))
    benchmark = nc_benchmark(
        dataset, dataset, 3, False, fixed_class_order=ORDER, class_ids_from_zero_from_first_exp=from_zero
    )
    for experience in benchmark.train_stream:
        images = as_samples(experience.dataset)
        assert images.images.dtype == torch.uint8  # indexed: one by one they would be floats
        assert images.labels.tolist() == one_by_one(experience.dataset)[1]
        true = [int(name[1:]) % CLASSES for name in images.ids]
        assert images.labels.tolist() == ([ORDER.index(label) for label in true] if from_zero else true)


def test_images_are_read_with_the_transformations_of_evaluation() -> None:
    plain = as_classification_dataset(
        Numbered(9),
        transform_groups={"train": (lambda image: image + 0.25, None), "eval": (lambda image: image / 2, None)},
    )
    images = as_samples(with_sample_ids(plain, [f"s{number}" for number in range(9)]).train())
    assert images.images[:, 0, 0, 0].tolist() == pytest.approx([number / 510 for number in range(9)])


def test_a_label_that_only_reading_can_tell_is_read() -> None:
    base = image_set(6)
    attributes = [DataAttribute(base.labels.tolist(), "targets"), DataAttribute(list(base.ids), SAMPLE_ID)]
    groups = {"eval": (None, lambda label: 5 - label)}
    turned = ClassificationDataset([base], transform_groups=groups, data_attributes=attributes)
    assert as_samples(turned).labels.tolist() == [5, 4, 3, 2, 1, 0]
    assert list(turned.targets) == [0, 1, 2, 3, 4, 5]


def test_images_that_leave_zero_to_one_are_refused() -> None:
    shifted = as_classification_dataset(Numbered(4), transform_groups={"eval": (lambda image: image + 1, None)})
    with pytest.raises(InvalidDataError, match="expected \\[0, 1\\]"):
        as_samples(with_sample_ids(shifted))


def test_nothing_at_all_is_refused() -> None:
    with pytest.raises(EmptySetError):
        as_samples(with_sample_ids(numbered().subset([])))


def test_ids_are_given_and_replaced_and_the_given_data_set_stays() -> None:
    dataset = numbered(5)
    named = with_sample_ids(dataset)
    renamed = with_sample_ids(named, list("abcde"))
    assert not has_sample_ids(dataset)
    assert sample_ids(named) == ("0", "1", "2", "3", "4")
    assert sample_ids(renamed) == ("a", "b", "c", "d", "e")
    joined = renamed.concat(with_sample_ids(numbered(2), ["y", "z"]))  # reads the attribute, not the table
    assert sample_ids(joined) == ("a", "b", "c", "d", "e", "y", "z")
    assert sample_ids(named.concat(renamed)) == ("0", "1", "2", "3", "4", "a", "b", "c", "d", "e")
    assert len(renamed[0]) == 2


def test_ids_are_text() -> None:
    numbers = numbered(3).update_data_attribute(SAMPLE_ID, DataAttribute([7, 8, 9], SAMPLE_ID))
    assert sample_ids(numbers) == ("7", "8", "9")


@pytest.mark.parametrize("ids", [["a", "b"], ["a", "b", "a"]])
def test_ids_that_do_not_fit_are_refused(ids: list[str]) -> None:
    with pytest.raises(InvalidDataError, match="2 of them different"):
        with_sample_ids(numbered(3), ids)


def test_who_has_no_ids_is_told_what_to_do() -> None:
    mixed = with_sample_ids(numbered(3)).concat(numbered(3))  # Avalanche drops what one side lacks
    for dataset in (numbered(3), mixed):
        with pytest.raises(InvalidDataError, match="with_sample_ids"):
            sample_ids(dataset)


@settings(max_examples=40, deadline=None)
@given(st.sets(st.sampled_from([f"s{number}" for number in range(15)])))
def test_without_leaves_samples_out_and_keeps_the_order(ids: set[str]) -> None:
    dataset = as_avalanche_dataset(image_set(12)).subset([5, 3, 8, 0, 11, 2])
    held = sample_ids(dataset)
    rest = without(dataset, ids)
    assert list(sample_ids(rest)) == [name for name in held if name not in ids]
    assert [f"s{number}" for number in shown(rest)] == list(sample_ids(rest))
    assert (rest is dataset) == (not set(held) & ids)


def test_an_image_set_is_the_same_on_the_other_side() -> None:
    images = image_set(7)
    dataset = as_avalanche_dataset(images)
    assert [(image.tolist(), label) for image, label in (dataset[index] for index in range(7))] == [
        (image.tolist(), label) for image, label in (images[index] for index in range(7))
    ]
    assert list(dataset.targets) == images.labels.tolist()
    back = as_samples(dataset)
    assert back.images is images.images and back.ids == images.ids  # nothing is copied
