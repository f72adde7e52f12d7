from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from fed_unlearn.simulations.compare.statistics import (
    friedman,
    holm,
    mean_ranks,
    paired_difference,
    spread_of,
)

VALUES = st.floats(-1e3, 1e3).map(lambda value: round(value, 4))
P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=6)


@given(st.lists(VALUES, min_size=2, max_size=12))
def test_means_and_deviations_are_numpys(values: list[float]) -> None:
    found = spread_of(values)
    assert found.n == len(values)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.deviation == pytest.approx(math.sqrt(np.var(values) * len(values) / (len(values) - 1)), abs=1e-9)


def test_one_value_has_no_deviation_and_none_no_mean() -> None:
    assert (spread_of([0.25]).mean, spread_of([0.25]).deviation) == (0.25, None)
    assert (spread_of([]).n, spread_of([]).mean) == (0, None)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_the_interval_is_that_of_students_t(n: int, level: float) -> None:
    draw = np.random.default_rng(n)
    first, second = draw.normal(size=n), draw.normal(size=n)
    found = paired_difference(dict(enumerate(first)), dict(enumerate(second)), level)
    differences = first - second
    error = differences.std(ddof=1) / math.sqrt(n)
    half = scipy.stats.t(n - 1).ppf((1 + level) / 2) * error
    assert found is not None and found.n == n and not found.is_constant
    assert found.mean == pytest.approx(differences.mean())
    assert (found.low, found.high) == pytest.approx((differences.mean() - half, differences.mean() + half))
    assert found.p == pytest.approx(2 * scipy.stats.t(n - 1).sf(abs(differences.mean()) / error))


def test_only_common_seeds_count() -> None:
    found = paired_difference({0: 1.0, 1: 3.0, 2: 100.0}, {1: 1.0, 0: 0.5, 7: -100.0})
    assert found is not None
    assert (found.n, found.mean) == (2, 1.25)
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


def test_one_common_seed_has_no_interval() -> None:
    found = paired_difference({0: 1.0}, {0: 0.25})
    assert found is not None
    assert (found.n, found.mean, found.low, found.high, found.p, found.is_constant) == (
        1,
        0.75,
        None,
        None,
        None,
        False,
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("difference", [0.0, 0.1, -2.0])
def test_a_constant_difference_is_a_point_without_a_p_value(difference: float) -> None:
    baseline = {seed: 0.1 * seed for seed in range(5)}
    found = paired_difference({seed: value + difference for seed, value in baseline.items()}, baseline)
    assert found is not None and found.is_constant
    assert found.low == found.high == found.mean == pytest.approx(difference, abs=1e-12)
    assert found.p is None


@given(P_VALUES)
def test_holm_is_the_closed_test_of_bonferroni(p_values: list[float]) -> None:
    """A hypothesis is rejected if Bonferroni rejects every set of hypotheses with it (Marcus et al., 1976)."""
    numbers = range(len(p_values))
    sets = [chosen for size in numbers for chosen in itertools.combinations(numbers, size + 1)]
    closed = [
        max(min(1.0, len(chosen) * min(p_values[other] for other in chosen)) for chosen in sets if number in chosen)
        for number in numbers
    ]
    assert holm(p_values) == pytest.approx(closed)


@given(st.lists(st.lists(st.integers(0, 4).map(float), min_size=4, max_size=4), min_size=1, max_size=6))
def test_ranks_count_what_is_lower_and_half_of_what_is_equal(rows: list[list[float]]) -> None:
    ranks = [[1 + sum(y < x for y in row) + (sum(y == x for y in row) - 1) / 2 for x in row] for row in rows]
    assert mean_ranks(rows) == pytest.approx(np.mean(ranks, axis=0))


def test_sums_of_floats_that_agree_share_a_rank() -> None:
    assert mean_ranks([[0.1 + 0.2, 0.3, 0.0]]) == [2.5, 2.5, 1.0]


@settings(max_examples=50)
@given(st.lists(st.lists(VALUES, min_size=3, max_size=3, unique=True), min_size=3, max_size=8))
def test_the_friedman_statistic_is_that_of_its_formula(rows: list[list[float]]) -> None:
    n, k = len(rows), 3
    sums = np.sum([scipy.stats.rankdata(row) for row in rows], axis=0)
    expected = 12 / (n * k * (k + 1)) * float(np.sum(sums**2)) - 3 * n * (k + 1)
    found = friedman(rows)
    assert found is not None
    assert found.statistic == pytest.approx(expected, abs=1e-9)
    assert found.p == pytest.approx(scipy.stats.chi2(k - 1).sf(expected), abs=1e-9)


@pytest.mark.filterwarnings("error")
def test_there_is_no_friedman_test_for_little_or_for_equals() -> None:
    assert friedman([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]) is None  # two methods
    assert friedman([[1.0, 2.0, 3.0]] * 2) is None  # two seeds
    assert friedman([[0.1 + 0.2, 0.3, 0.3]] * 5) is None  # all equal
    assert friedman([]) is None
