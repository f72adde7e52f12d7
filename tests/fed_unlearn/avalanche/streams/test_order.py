"""The order of training and forget experiences."""

from __future__ import annotations

import operator
from typing import Any

import pytest
from avalanche.benchmarks import benchmark_from_datasets
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_benchmarks import made, numbered

from fed_unlearn.avalanche.streams import ForgetExperience, forget_benchmark
from fed_unlearn.avalanche.streams.order import interleave
from fed_unlearn.errors import InvalidDataError
from fed_unlearn.requests import ForgetRequest


def told(interleaved: list[Any]) -> list[str]:
    return [
        str(item.request.id) if isinstance(item, ForgetExperience) else f"train-{item.current_experience}"
        for item in interleaved
    ]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 5), max_size=5))  # an experience has six samples, and one must stay
def test_a_request_comes_right_after_the_experience_that_it_falls_on(places: list[int]) -> None:
    base = numbered(30)
    benchmark = benchmark_from_datasets(train=[base.subset(list(range(part, 30, 5))) for part in range(5)], test=[base])
    requests: dict[int, list[ForgetRequest]] = {}
    for place in places:
        requests.setdefault(place, []).append(ForgetRequest.for_samples("0", count=1))
    interleaved = interleave(forget_benchmark(benchmark, requests))
    keys = [(number + 1, 0, f"train-{number}") for number in range(5)]
    keys += [(place, number, f"forget-{number}") for number, place in enumerate(sorted(places), start=1)]
    assert told(interleaved) == [name for _, _, name in sorted(keys, key=operator.itemgetter(0, 1))]
    assert len(interleaved) == 5 + len(places)


def test_it_can_be_looped_over_again_indexed_and_sliced() -> None:
    scenario = forget_benchmark(made("ni"), {1: ForgetRequest.for_class(0), 3: ForgetRequest.for_class(1)})
    interleaved = interleave(scenario)
    expected = ["train-0", "forget-1", "train-1", "train-2", "forget-2"]
    assert told(interleaved) == told(interleaved) == expected
    assert interleaved[1] is scenario.forget_stream[0] and interleaved[-2] is scenario.train_stream[2]
    assert told(interleaved[1:4]) == expected[1:4] and len(interleaved[::2]) == 3
    assert told(interleaved[1:][1:]) == expected[2:]
    assert told(interleaved[-2:]) == expected[-2:]
    with pytest.raises(IndexError):
        interleaved[5]


@pytest.mark.parametrize("kind", ["nc", "new-instances", "validation"])
def test_without_a_forget_stream_training_experiences_come_alone(kind: str) -> None:
    interleaved = interleave(made(kind))
    assert told(interleaved) == told(interleaved) == ["train-0", "train-1", "train-2"]


def test_without_a_train_stream_there_is_no_order() -> None:
    with pytest.raises(InvalidDataError, match="without a train_stream"):
        interleave(benchmark_from_datasets(test=[numbered(6)]))
