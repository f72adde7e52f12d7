"""Intervals against closed forms, and against what they promise: to hold the true value in 95 of 100 draws."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fed_unlearn.audits.intervals import bootstrap_interval, mean_difference, wilson_interval


@pytest.mark.parametrize(("hits", "total"), [(0, 10), (10, 10), (3, 17), (81, 263)])
def test_wilson_s_ends_are_where_the_share_is_196_errors_away(hits: int, total: int) -> None:
    low, high = wilson_interval(hits, total)
    for end in (low, high):
        if 0 < end < 1:
            assert abs(hits / total - end) / math.sqrt(end * (1 - end) / total) == pytest.approx(1.959964, abs=1e-5)
    assert 0 <= low <= hits / total <= high <= 1


def test_newcombe_s_example() -> None:
    low, high = wilson_interval(81, 263)  # Newcombe, Statistics in Medicine 1998, part 1, table 1
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_a_difference_of_means_is_normal_with_each_side_s_variance() -> None:
    random = np.random.default_rng(3)
    first, second = random.normal(1, 2, 40), random.normal(0, 1, 60)
    sides = [(len(side), float(side.sum()), float((side**2).sum())) for side in (first, second)]
    value, interval = mean_difference(sides[0], sides[1])
    half = 1.959964 * math.sqrt(first.var(ddof=1) / 40 + second.var(ddof=1) / 60)
    assert value == pytest.approx(first.mean() - second.mean(), abs=1e-12)
    assert interval == pytest.approx((value - half, value + half), abs=1e-6)
    assert mean_difference((1, 2.0, 4.0), sides[1])[1] is None


def test_a_bootstrap_of_a_mean_is_as_wide_as_theory_says_and_decided_by_its_seed() -> None:
    values = np.random.default_rng(0).normal(size=400)

    def mean(chosen: np.ndarray) -> float:
        return float(values[chosen].mean())

    low, high = bootstrap_interval(400, mean, seed=1, name="mean")
    assert (high - low) == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert low < values.mean() < high
    assert bootstrap_interval(400, mean, seed=1, name="mean") == (low, high)
    assert bootstrap_interval(400, mean, seed=2, name="mean") != (low, high)
