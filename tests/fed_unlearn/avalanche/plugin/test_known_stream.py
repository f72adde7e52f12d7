"""Ids that samples get as they arrive, and what a plug-in knows of the stream that they come from."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from avalanche.benchmarks import (
    benchmark_from_datasets,
    new_instances_benchmark,
    split_online_stream,
)
from avalanche.benchmarks.scenarios import DatasetExperience
from avalanche.benchmarks.scenarios.generic_scenario import CLStream
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.benchmarks.utils.classification_dataset import ClassificationDataset
from avalanche.benchmarks.utils.transform_groups import DefaultTransformGroups, TransformGroups
from avalanche.training import Naive
from plugged_strategies import plugged
from watched_strategies import made, made_benchmark, made_dataset

from fed_unlearn.avalanche.plugin.known_stream import KnownStream
from fed_unlearn.avalanche.streams import forget_benchmark
from fed_unlearn.avalanche.streams.samples import has_sample_ids, sample_ids
from fed_unlearn.errors import InvalidDataError, InvalidParameterError
from fed_unlearn.requests import ForgetRequest

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("seeded")]


def named(stream: KnownStream, experience: Any) -> list[str]:
    return list(sample_ids(stream.named(experience, frozenset()).dataset))


def shown(dataset: AvalancheDataset) -> list[str]:
    return [str(round(float(item[0][0, 0, 0]) * 1000)) for item in dataset]


class Turned:
    """Turns images by some quarters, as a permuted or rotated benchmark changes every experience by itself."""

    def __init__(self, quarters: int) -> None:
        self.quarters = quarters

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return image.rot90(self.quarters, (1, 2))


def turned_benchmark() -> Any:
    """Three experiences of the same 60 samples, each with a transformation of its own."""
    whole = made_dataset(named=False)
    parts = [
        ClassificationDataset([whole], transform_groups=DefaultTransformGroups((Turned(number), None)))
        for number in range(3)
    ]
    return benchmark_from_datasets(train=parts, test=[made_dataset(12, 60, named=False)])


@pytest.mark.parametrize("kind", ["ci", "nc"])
def test_an_id_is_the_index_in_the_common_data_set(kind: str) -> None:
    benchmark, stream = made_benchmark(kind, named=False), KnownStream()
    for experience in benchmark.train_stream:
        assert named(stream, experience) == shown(experience.dataset)
        assert not has_sample_ids(experience.dataset), "the given experience is not changed"
    assert stream.problem is None


def test_slices_and_the_order_of_experiences_do_not_matter() -> None:
    benchmark, stream = made_benchmark("nc", named=False), KnownStream()
    for experience in reversed(list(benchmark.train_stream[1:])):
        assert named(stream, experience) == shown(experience.dataset)
    assert named(stream, benchmark.train_stream[0]) == shown(benchmark.train_stream[0].dataset)


def test_ids_tell_experiences_of_the_same_samples_apart() -> None:
    benchmark, stream = turned_benchmark(), KnownStream()
    for number, experience in enumerate(benchmark.train_stream):
        assert named(stream, experience) == [f"{number}:{index}" for index in range(60)]
    scenario = forget_benchmark(benchmark, {2: ForgetRequest.for_samples("me", ["1:7"])})
    assert scenario.forget_stream[0].sample_ids == ("1:7",)
    image, label, *_ = scenario.forget_stream[0].dataset.eval()[0]
    assert label == 7 % 6
    assert torch.equal(image, benchmark.train_stream[1].dataset[7][0])
    assert not torch.equal(image, benchmark.train_stream[0].dataset[7][0])


@pytest.mark.parametrize("boundaries", [False, True])
def test_online_parts_have_the_ids_of_their_experience(boundaries: bool) -> None:
    for benchmark, whole in ((made_benchmark("ci", named=False), shown), (turned_benchmark(), None)):
        stream = KnownStream()
        for number, experience in enumerate(benchmark.train_stream):
            met: list[str] = []
            for part in split_online_stream([experience], 9, access_task_boundaries=boundaries, seed=3):
                ids = named(stream, part)
                met += ids
                if whole is not None:
                    assert ids == whole(part.dataset)
            expected = whole(experience.dataset) if whole else [f"{number}:{index}" for index in range(60)]
            assert sorted(met) == sorted(expected)


def test_a_stream_that_makes_its_experiences_is_not_made_ahead_of_its_time() -> None:
    benchmark = new_instances_benchmark(made_dataset(named=False), made_dataset(12, 60, named=False), num_experiences=3)
    stream, met = KnownStream(), list[str]()
    torch.manual_seed(4)
    for number, experience in enumerate(benchmark.train_stream):
        state = torch.get_rng_state()
        met += named(stream, experience)
        assert torch.equal(torch.get_rng_state(), state)
        assert met[-1] == f"{number}:{len(experience.dataset) - 1}"
    assert len(met) == len(set(met)) == 60
    for number, experience in enumerate(benchmark.train_stream):
        assert named(stream, experience)[0] == f"{number}:0", "a second pass brings the same samples"


def test_a_request_waits_in_a_stream_whose_end_nobody_knows() -> None:
    strategy, plugin, _ = plugged(made(Naive))
    strategy.plugins.pop()
    data = made_dataset(named=False)
    parts = (data.subset(list(range(start, 60, 6))) for start in range(6))
    stream: CLStream[Any] = CLStream("train", (DatasetExperience(dataset=part) for part in parts))
    plugin.submit(ForgetRequest.for_class(2))
    plugin.submit(ForgetRequest.for_class(9))
    for number, experience in enumerate(stream):
        strategy.train(experience)
        assert len(plugin.outcomes) == (number >= 2)
    assert number == 5
    assert plugin.forgotten == {f"2:{index}" for index in range(10)}
    assert [request.id for request in plugin.waiting] == ["submitted-2"]


def test_another_benchmark_is_a_problem_for_requests_alone() -> None:
    stream = KnownStream()
    named(stream, made_benchmark("ci", named=False).train_stream[0])
    other = turned_benchmark().train_stream[0]
    assert stream.named(other, frozenset()) is other
    assert isinstance(stream.problem, InvalidParameterError)
    with pytest.raises(InvalidParameterError, match="another benchmark"):
        stream.named(other, {"0"})
    with pytest.raises(InvalidParameterError, match="another benchmark"):
        stream.experience_of(ForgetRequest.for_class(0), 1, {"0"})


def test_samples_that_are_not_of_the_experience_have_no_id() -> None:
    benchmark, stream = made_benchmark("ci", named=False), KnownStream()
    experience = benchmark.train_stream[0]
    foreign = made_benchmark("ci", named=False).train_stream[0]
    foreign.origin_stream = experience.origin_stream
    named(stream, experience)
    assert stream.named(foreign, frozenset()) is foreign
    assert isinstance(stream.problem, InvalidDataError)


def test_what_has_no_labels_is_a_problem_for_requests_alone() -> None:
    stream = KnownStream()
    experience = made_benchmark("ci", named=False).train_stream[0]
    experience._dataset = AvalancheDataset([list(range(3))])
    assert stream.named(experience, frozenset()) is experience
    assert isinstance(stream.problem, InvalidDataError)


def repeating_benchmark() -> Any:
    """Two experiences of different data sets. The first has its first two samples twice."""
    first, second = made_dataset(12, named=False), made_dataset(12, 30, named=False)
    return benchmark_from_datasets(train=[first.subset([0, 0, 1, *range(1, 12)]), second], test=[second])


def test_rows_of_one_sample_keep_the_ids_that_their_stream_gives_them() -> None:
    benchmark, stream = repeating_benchmark(), KnownStream()
    experience = benchmark.train_stream[0]
    assert named(stream, experience) == [str(row) for row in range(14)]
    assert stream.scenario is not None
    assert named(stream, experience) == list(sample_ids(stream.scenario.train_stream[0].dataset))
    assert stream.problem is None


def test_a_row_that_is_forgotten_is_left_out_of_the_training() -> None:
    benchmark = repeating_benchmark()
    strategy, plugin, _ = plugged(made(Naive))
    strategy.plugins.pop()
    strategy.train(benchmark.train_stream[0])
    assert strategy.unlearn(ForgetRequest.for_samples("me", ["0", "1", "5"])).committed
    strategy.model.trained_on.clear()
    strategy.train(benchmark.train_stream[0])
    assert strategy.model.trained_on == set(range(1, 12)) - {3}
    assert plugin.forgotten == {"0", "1", "5"}


def test_online_parts_give_all_rows_of_one_sample_the_same_id() -> None:
    benchmark = repeating_benchmark()
    strategy, plugin, _ = plugged(made(Naive))
    strategy.plugins.pop()
    stream, met = KnownStream(), list[str]()
    for part in split_online_stream([benchmark.train_stream[0]], 5, seed=3):
        ids = named(stream, part)
        assert len(set(zip(ids, shown(part.dataset), strict=True))) == len(set(ids)) == len(set(shown(part.dataset)))
        met += ids
        strategy.train(part)
    assert sorted(met, key=int) == ["0", "0", "2", "2", *map(str, range(4, 14))]
    assert strategy.unlearn(ForgetRequest.for_samples("me", ["0"])).committed
    strategy.model.trained_on.clear()
    for part in split_online_stream([benchmark.train_stream[0]], 5, seed=3):
        strategy.train(part)
    assert strategy.model.trained_on == set(range(1, 12))
    assert plugin.forgotten == {"0"}


class Noisy:
    """Adds noise of the global generator."""

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return image + torch.rand(())


class Counting:
    """Counts how often an image is read."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return image


class Failing:
    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        raise OSError("the file is gone")


def seen_through(train: Any, evaluation: Any) -> Any:
    groups = {"train": (train, None), "eval": (evaluation, None)}
    whole = made_dataset(named=False)
    views = [
        ClassificationDataset([whole], transform_groups=TransformGroups(groups)).subset(range(30 * k, 30 * k + 30))
        for k in (0, 1)
    ]
    return benchmark_from_datasets(train=views, test=[made_dataset(12, 60, named=False)])


def digest(train: Any, evaluation: Any) -> str | None:
    stream = KnownStream()
    named(stream, seen_through(train, evaluation).train_stream[0])
    return stream.digest


def test_a_digest_tells_inputs_apart_and_not_random_transforms_of_training() -> None:
    plain = digest(None, None)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert digest(Noisy(), None) == digest(Noisy(), None) == plain
    assert digest(None, Noisy()) == digest(None, Noisy()), "a sample is read with a seed of its own"
    assert torch.equal(torch.get_rng_state(), state)
    assert digest(Turned(1), Turned(1)) == digest(None, Turned(1))
    assert len({plain, digest(None, Turned(1)), digest(None, Turned(2)), digest(None, Noisy())}) == 4
    assert digest(None, Failing()) == digest(None, Failing()) != plain


def test_a_benchmark_with_other_inputs_is_another_one() -> None:
    stream = KnownStream()
    named(stream, seen_through(None, Turned(1)).train_stream[0])
    named(stream, seen_through(Noisy(), Turned(1)).train_stream[1])
    assert stream.problem is None, "the same benchmark made anew"
    named_again = seen_through(None, Turned(2)).train_stream[1]
    assert stream.named(named_again, frozenset()) is named_again
    assert isinstance(stream.problem, InvalidParameterError)


def test_inputs_are_not_read_before_two_benchmarks_are_compared() -> None:
    counting = Counting()
    benchmark, stream = seen_through(None, counting), KnownStream()
    for experience in benchmark.train_stream:
        named(stream, experience)
    restored = pickle.loads(pickle.dumps(stream))
    assert counting.calls == 0
    named(restored, seen_through(None, None).train_stream[1])
    assert restored.problem is None, "a stored stream can be compared"
    named(stream, seen_through(None, None).train_stream[0])
    assert 0 < counting.calls <= 2 * 2 * 3
