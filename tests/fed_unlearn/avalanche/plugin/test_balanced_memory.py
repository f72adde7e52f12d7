"""A memory beside a whole experience: no class of the experience has more samples than the largest earlier one."""

from __future__ import annotations

import pytest
import torch
from avalanche.training import Replay
from plugged_strategies import plugged, scenario_of
from watched_strategies import made

from fed_unlearn.avalanche.plugin.request_samples import balanced
from fed_unlearn.data.images import ImageSet
from fed_unlearn.requests import ForgetRequest


@pytest.mark.parametrize(
    ("labels", "latest", "expected"),
    [
        ([0, 0, 1, 2, 2, 2, 3, 2, 3, 3], {2, 3}, [0, 1, 2, 3, 4, 6, 8]),
        ([2, 2, 2, 3], {2, 3}, [0, 1, 2, 3]),
        ([0, 0, 0, 1, 2], {2}, [0, 1, 2, 3, 4]),
    ],
    ids=["the first two of each latest class", "no earlier class", "all are fewer"],
)
def test_latest_classes_have_at_most_as_many_samples_as_the_largest_earlier_one(
    labels: list[int], latest: set[int], expected: list[int]
) -> None:
    samples = ImageSet(torch.zeros(len(labels), 1, 2, 2), torch.tensor(labels))
    kept = balanced(samples, latest)
    assert kept.ids == tuple(str(index) for index in expected)
    assert kept.labels.tolist() == [labels[index] for index in expected]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize(
    ("request_", "most"),
    [(ForgetRequest.for_class(0), 6), (ForgetRequest.for_samples("me", ["0"]), 10)],
    ids=["a class", "a sample"],
)
def test_a_request_for_single_samples_reads_all_that_the_memory_holds(request_: ForgetRequest, most: int) -> None:
    scenario = scenario_of("ci", {2: request_})
    strategy, plugin, _ = plugged(made(Replay, mem_size=12), retain="memory")
    strategy.train(scenario.train_stream[:2])
    experience, history = scenario.forget_stream[0], plugin._service.history
    retained = plugin._service.samples.retained(strategy, experience, history.views())
    latest = [int((retained.labels == label).sum()) for label in (2, 3)]
    earlier = [int((retained.labels == label).sum()) for label in (0, 1)]
    assert max(earlier) <= 6 and max(latest) == min(most, max(earlier) if most < 10 else most)
