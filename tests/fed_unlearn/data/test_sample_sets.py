"""What every kind of sample set does alike, in memory or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from fed_unlearn.data.domain import PIXELS, TOKENS, VALUES
from fed_unlearn.data.held import HeldSet
from fed_unlearn.data.images import ImageSet
from fed_unlearn.data.joined import JoinedSet, concatenate
from fed_unlearn.data.lazy import LazySet
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.data.tensors import TensorSet
from fed_unlearn.errors import InvalidDataError, InvalidParameterError
from fed_unlearn.guards import UNGUARDED, Guard, GuardedSet, guard_retained

COUNT = 11
LABELS = torch.arange(COUNT) % 3
IDS = tuple(f"s{index}" for index in range(COUNT))
PIXEL_IMAGES = torch.rand(COUNT, 2, 4, 4, generator=torch.Generator().manual_seed(0))
ROWS = torch.randn(COUNT, 7, generator=torch.Generator().manual_seed(1))
TEXTS = torch.randint(30, (COUNT, 6), generator=torch.Generator().manual_seed(2))


class Records(Dataset[dict[str, Any]]):
    """Items as Hugging Face's data sets give them; counts what is read."""

    def __init__(self, inputs: Tensor) -> None:
        self.inputs, self.read = inputs, list[int]()

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.read.append(index)
        return {"text": self.inputs[index], "label": int(LABELS[index])}


def text_of(item: dict[str, Any]) -> Tensor:
    text: Tensor = item["text"]
    return text


def joined() -> JoinedSet:
    part = lazy_rows()
    return JoinedSet([part.subset(torch.arange(4)), TensorSet(ROWS, LABELS, IDS).subset(torch.arange(4, COUNT))], IDS)


def lazy_rows(workers: int = 0) -> LazySet:
    return LazySet(Records(ROWS), LABELS, IDS, input_of=text_of, domain=VALUES, workers=workers)


def guarded() -> GuardedSet:
    return GuardedSet(TensorSet(ROWS, LABELS, IDS), (LABELS + 1) % 3, 0.5)


KINDS: dict[str, tuple[Callable[[], SampleSet], Tensor]] = {
    "images": (lambda: ImageSet(PIXEL_IMAGES, LABELS, IDS), PIXEL_IMAGES),
    "rows": (lambda: TensorSet(ROWS, LABELS, IDS), ROWS),
    "texts": (lambda: TensorSet(TEXTS, LABELS, IDS), TEXTS),
    "lazy rows": (lazy_rows, ROWS),
    "lazy texts": (lambda: LazySet(Records(TEXTS), LABELS, IDS, input_of=text_of, domain=TOKENS), TEXTS),
    "read by workers": (lambda: lazy_rows(workers=2), ROWS),
    "held": (lambda: HeldSet(ROWS, lazy_rows(), torch.arange(len(ROWS))), ROWS),
    "joined": (joined, ROWS),
    "guarded": (guarded, ROWS),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_batches_are_the_samples_at_their_positions(kind: str) -> None:
    samples, inputs = KINDS[kind][0](), KINDS[kind][1]
    plan: list[Tensor | slice] = [torch.tensor([9, 0, 5, 5]), slice(0, 0), slice(2, 5), torch.tensor([1])]
    for (found, labels), positions in zip(samples.batches(plan), plan, strict=True):
        assert torch.equal(found, inputs[positions]) and found.dtype == inputs.dtype
        assert torch.equal(labels, LABELS[positions])
    whole, labels = samples.batch()
    assert torch.equal(whole, inputs) and torch.equal(labels, LABELS)
    one, label = samples[4]
    assert torch.equal(one, inputs[4]) and label == int(LABELS[4])
    assert samples.input_shape == tuple(inputs.shape[1:])


@every_kind
def test_parts_keep_labels_ids_and_inputs_together(kind: str) -> None:
    samples, inputs = KINDS[kind][0](), KINDS[kind][1]
    for part, expected in (
        (samples.subset(torch.tensor([7, 2])), [7, 2]),
        (samples.subset(torch.tensor([7, 2, 3])).subset(torch.tensor([2, 0])), [3, 7]),
        (samples.only(["s8", "s1", "unknown"]), [1, 8]),
        (samples.without(IDS[2:]), [0, 1]),
        (samples.of_classes([1]), [1, 4, 7, 10]),
        (samples.only([]), []),
    ):
        assert part.ids == tuple(IDS[index] for index in expected)
        assert torch.equal(part.labels, LABELS[expected])
        assert torch.equal(part.batch()[0], inputs[expected])
        assert part.domain == samples.domain and part.input_shape == samples.input_shape


def test_parts_of_held_samples_share_their_inputs() -> None:
    inputs = ROWS.clone()
    held = HeldSet(inputs, lazy_rows(), torch.arange(COUNT))
    parts = [held.subset(torch.tensor([3, 1])), held.relabelled(LABELS.flip(0)), held.without(IDS[:4])]
    joined_again = parts[0].merged_with([parts[2]], None)
    inputs += 100
    for part, places in zip(parts, ([3, 1], list(range(COUNT)), list(range(4, COUNT))), strict=True):
        assert torch.equal(part.batch()[0], ROWS[places] + 100)
    assert joined_again is not None and torch.equal(joined_again.batch()[0], ROWS[[3, 1, *range(4, COUNT)]] + 100)


@every_kind
def test_relabelled_samples_have_the_inputs_and_ids_of_the_others(kind: str) -> None:
    samples, inputs = KINDS[kind][0](), KINDS[kind][1]
    other = samples.relabelled(2 - LABELS)
    assert torch.equal(other.labels, 2 - LABELS) and torch.equal(other.batch()[1], 2 - LABELS)
    assert torch.equal(other.batch()[0], inputs) and other.ids == IDS
    assert torch.equal(samples.labels, LABELS)


@every_kind
@pytest.mark.parametrize("second", ["rows", "lazy rows", "joined"])
def test_sets_are_concatenated_whatever_they_are(kind: str, second: str) -> None:
    samples, inputs = KINDS[kind][0](), KINDS[kind][1]
    other = KINDS[second][0]()
    if inputs is not ROWS:
        with pytest.raises(InvalidDataError, match="expected one of each"):
            concatenate(samples, other)
        return
    both = concatenate(samples.subset(torch.arange(5)), other.subset(torch.arange(3, COUNT)))
    assert both.ids == tuple(str(index) for index in range(13))  # s3 and s4 are in both
    positions = torch.tensor([12, 0, 6, 4])
    found, labels = both.batch(positions)
    expected = torch.cat([inputs[:5], ROWS[3:]])
    assert torch.equal(found, expected[positions])
    assert torch.equal(labels, torch.cat([LABELS[:5], LABELS[3:]])[positions])
    assert torch.equal(concatenate(both, other).batch()[0], torch.cat([expected, ROWS]))


def test_parts_of_one_dataset_are_joined_without_a_layer() -> None:
    samples = lazy_rows()
    both = concatenate(samples.subset(torch.tensor([3])), samples.subset(torch.tensor([1, 2])))
    assert type(both) is LazySet and both.ids == ("s3", "s1", "s2")
    assert torch.equal(both.batch()[0], ROWS[[3, 1, 2]])


def test_nothing_is_read_before_a_batch_asks() -> None:
    records = Records(ROWS)
    samples = LazySet(records, LABELS, IDS, input_of=text_of, domain=VALUES)
    part = concatenate(samples.of_classes([1]).relabelled(torch.zeros(4, dtype=torch.int64)), samples.without(IDS[3:]))
    assert len(part) == 7 and records.read == []
    part.batch(torch.tensor([0, 4]))
    assert records.read == [1, 0]


def test_guards_go_with_their_samples() -> None:
    part = guarded().subset(torch.tensor([4, 1]))
    assert torch.equal(part.old_labels, (LABELS[[4, 1]] + 1) % 3) and part.margin == 0.5
    assert torch.equal(part.relabelled(torch.tensor([0, 0])).old_labels, part.old_labels)
    mixed = guard_retained(
        lazy_rows(), [Guard(lazy_rows().of_classes([2]), torch.tensor([0, 1, UNGUARDED]))], weight=2, margin=1.0
    )
    assert isinstance(mixed, GuardedSet) and len(mixed) == COUNT + 4
    assert mixed.old_labels.tolist() == [UNGUARDED] * COUNT + [2] * 4
    assert mixed.batch(slice(COUNT, None))[1].tolist() == [0, 1, 0, 1]


def test_audits_read_without_augmentation_where_the_app_says_how() -> None:
    plain = TensorSet(ROWS, LABELS, IDS)
    noisy = LazySet(Records(ROWS + 100), LABELS, IDS, input_of=text_of, domain=VALUES, evaluation=plain)
    part = noisy.subset(torch.tensor([5, 2])).relabelled(torch.tensor([0, 0]))
    assert torch.equal(part.batch()[0], ROWS[[5, 2]] + 100)
    inputs, labels = part.evaluated().batch()
    assert torch.equal(inputs, ROWS[[5, 2]]) and labels.tolist() == [0, 0] and part.evaluated().ids == ("s5", "s2")
    assert torch.equal(concatenate(noisy, plain.relabelled(LABELS)).evaluated().batch()[0], torch.cat([ROWS, ROWS]))
    assert plain.evaluated() is plain
    with pytest.raises(InvalidDataError, match="evaluation: 3 samples were given for 11"):
        LazySet(Records(ROWS), LABELS, evaluation=plain.subset(torch.arange(3)))


def test_pairs_and_collated_items_are_read_too() -> None:
    pairs = TensorDataset(PIXEL_IMAGES, LABELS)
    assert torch.equal(LazySet(pairs, LABELS).batch()[0], PIXEL_IMAGES)
    assert LazySet(pairs, LABELS).domain == PIXELS

    def squared(items: list[tuple[Tensor, Tensor]]) -> Tensor:
        return torch.stack([image for image, _ in items]).square()

    assert torch.equal(LazySet(pairs, LABELS, collate=squared).batch()[0], PIXEL_IMAGES.square())


def test_items_that_do_not_fit_are_told_in_words() -> None:
    ragged = [(torch.zeros(2 + index), 0) for index in range(2)]
    labels = torch.zeros(2, dtype=torch.int64)
    for dataset, arguments, told in (
        (
            ragged,
            {"domain": VALUES},
            r"inputs of shapes \(2,\), \(3,\) were read; expected one shape: crop images, and pad",
        ),
        (Records(ROWS[:2]), {}, "an item of type dict was read; .* give input_of"),
        (Records(TEXTS[:2]), {"input_of": text_of}, "Records: inputs of torch.int64 were read; expected floats"),
        (ragged, {"collate": list}, "list: list was read as inputs; expected a tensor"),
    ):
        with pytest.raises(InvalidDataError, match=told):
            LazySet(dataset, labels, **arguments).batch()  # type: ignore[arg-type]
    one_by_one = LazySet(ragged, labels, domain=VALUES)  # type: ignore[arg-type]
    with pytest.raises(InvalidDataError, match=r"inputs of shape \(3,\) were read, and of \(2,\) before"):
        list(one_by_one.batches([torch.tensor([0]), torch.tensor([1])]))


def test_sets_that_cannot_be_are_refused() -> None:
    with pytest.raises(InvalidDataError, match="expected one unique id for each sample"):
        TensorSet(ROWS, LABELS, ["a"] * COUNT)
    with pytest.raises(InvalidDataError, match=r"expected \(11,\) of int64"):
        LazySet(Records(ROWS), LABELS[:3])
    with pytest.raises(InvalidDataError, match=r"float64 was given; expected .* float32, or of int64 for tokens"):
        TensorSet(ROWS.double(), LABELS)
    with pytest.raises(InvalidDataError, match="not finite"):
        TensorSet(ROWS / 0, LABELS)
    with pytest.raises(InvalidParameterError, match="both input_of and collate"):
        LazySet(Records(ROWS), LABELS, input_of=text_of, collate=torch.stack)


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_draws_nothing_from_the_global_generator(workers: int) -> None:
    before = torch.get_rng_state()
    list(lazy_rows(workers).batches([slice(0, 3), slice(3, 9)]))
    assert torch.equal(torch.get_rng_state(), before)
