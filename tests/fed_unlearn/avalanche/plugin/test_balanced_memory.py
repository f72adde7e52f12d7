"""A memory beside a whole experience: no class of the experience has more samples than the largest earlier one."""

from __future__ import annotations

import pytest
import torch

from fed_unlearn.avalanche.plugin.request_samples import balanced
from fed_unlearn.data.images import ImageSet


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
