import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from fed_unlearn.data.experiences import class_split, replayed
from fed_unlearn.data.images import ClientData, ImageSet
from fed_unlearn.data.streamed import StreamedSet
from fed_unlearn.errors import InvalidDataError, InvalidParameterError

LABELS = torch.tensor([4, 0, 2, 2, 1, 3, 0, 4])
NUMBERS = torch.tensor([3, 1, 2, 2, 1, 3, 1, 3])


def images(count: int) -> ImageSet:
    pixels = torch.rand(count, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    return ImageSet(pixels, LABELS[:count], [f"s{index}" for index in range(count)])


def held(numbers: torch.Tensor | None) -> ClientData:
    return ClientData(images(8), images(2), images(3), class_count=5, fingerprint="f", experiences=numbers)


def test_every_class_comes_with_one_experience_and_the_first_ones_bring_more() -> None:
    split = class_split(10, 4, seed=7)
    assert [len(classes) for classes in split] == [3, 3, 2, 2]
    assert sorted(class_id for classes in split for class_id in classes) == list(range(10))
    assert split == class_split(10, 4, seed=7)
    assert len({class_split(10, 4, seed) for seed in range(10)}) == 10
    assert class_split(5, 2, seed=7, class_order=[4, 0, 2, 1, 3]) == ((0, 2, 4), (1, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: class_split(3, 4, 0), "4 class-incremental experiences of 3 classes were asked for; expected 1 to 3"),
        (lambda: class_split(3, 0, 0), "0 class-incremental experiences"),
        (lambda: class_split(3, 2, 0, [0, 1]), r"class order \[0, 1\] was given; expected every class from 0 to 2 once"),
        (lambda: class_split(3, 2, 0, [0, 1, 1]), "class order"),
    ],
)  # fmt: skip
def test_experiences_that_cannot_be_are_refused(call, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidParameterError, match=message):
        call()


def test_numbers_that_do_not_fit_are_refused() -> None:
    for wrong in (NUMBERS[:5], NUMBERS.to(torch.int32), NUMBERS - 1):
        with pytest.raises(InvalidDataError, match=r"experiences: a tensor of shape \(.\,\) and torch.int"):
            held(wrong)


def test_what_has_arrived_is_what_the_numbers_say_under_the_same_ids() -> None:
    data = held(NUMBERS)
    for number in range(1, 4):
        positions = [index for index, value in enumerate(NUMBERS.tolist()) if value <= number]
        arrived, pixels = data.arrived(number), data.train.images
        assert arrived.ids == tuple(f"s{index}" for index in positions)
        assert torch.equal(arrived.images, pixels[positions]) and torch.equal(arrived.labels, LABELS[positions])
        assert data.of_experience(number).ids == tuple(
            f"s{index}" for index, value in enumerate(NUMBERS.tolist()) if value == number
        )
    assert data.experience_count == 3
    assert data.arrived(None) is data.arrived(0) is data.arrived(3) is data.arrived(9) is data.train
    assert len(data.of_experience(9)) == 0


def test_without_experiences_all_samples_are_of_the_first() -> None:
    data = held(None)
    assert data.experience_count == 1
    assert data.arrived(None) is data.arrived(1) is data.train
    assert (data.of_experience(1).ids, len(data.of_experience(2))) == (data.train.ids, 0)


def test_streamed_samples_arrive_as_those_in_memory_do() -> None:
    whole = images(8)
    streamed = StreamedSet(DataLoader(TensorDataset(whole.images, whole.labels), batch_size=3))
    data = ClientData(streamed, whole, whole, 5, "f", experiences=NUMBERS)  # type: ignore[arg-type]
    for ours, memory in (
        (data.arrived(2), held(NUMBERS).arrived(2)),
        (data.of_experience(3), held(NUMBERS).of_experience(3)),
    ):
        assert all(torch.equal(one, other) for one, other in zip(ours.batch(), memory.batch(), strict=True))


def test_a_forgotten_sample_is_never_replayed_and_changes_no_other() -> None:
    pool = ImageSet(torch.zeros(40, 1, 2, 2), torch.zeros(40, dtype=torch.int64), [f"s{index}" for index in range(40)])

    def drawn(forgotten: set[str], count: int = 10, seed: int = 5) -> tuple[str, ...]:
        return replayed(pool, pool.without(forgotten), count, torch.Generator().manual_seed(seed)).ids

    first = drawn(set())
    assert len(first) == 10 and first == drawn(set())
    assert list(first) == [sample_id for sample_id in pool.ids if sample_id in first]
    assert first != drawn(set(), seed=6)
    after = drawn({first[0], first[4]})
    assert set(first) - set(after) == {first[0], first[4]}
    assert len(after) == 10
    assert drawn(set(pool.ids) - set(first)) == first
    unused = next(sample_id for sample_id in pool.ids if sample_id not in set(first) | set(after))
    assert drawn({unused}) == first
    assert drawn(set(pool.ids[:35])) == pool.ids[35:]
    assert drawn(set(pool.ids)) == drawn(set(), count=0) == ()
