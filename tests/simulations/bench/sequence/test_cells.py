"""Counts against numbers worked out by hand."""

from __future__ import annotations

import pytest

from fed_unlearn.simulations.bench.sequence.cells import (
    Count,
    FigureCell,
    count_inside,
    count_left_out,
    pooled_interval,
)


def cell(seed: int, oracles: tuple[float, ...], figure: str = "probe", **models: float) -> FigureCell:
    return FigureCell(seed=seed, event="r2", request="r1", figure=figure, oracles=oracles, models=models)


def test_one_group_has_the_prediction_interval_of_its_own_spread() -> None:
    """Of 1, 2, 3: s = 1 with 2 degrees of freedom, t = 4.30265, and sqrt(1 + 1/3) = 1.15470."""
    interval = pooled_interval([1.0, 2.0, 3.0])
    assert interval == pytest.approx((2 - 4.30265 * 1.15470, 2 + 4.30265 * 1.15470), abs=1e-4)


def test_the_spread_is_pooled_about_the_means_of_the_groups_and_weighted_by_their_freedom() -> None:
    """Squares 2 of 1, 2, 3 and 8 of 10, 14: s² = 10 / 3 with 3 degrees of freedom, t = 3.18245."""
    half = 3.18245 * (10 / 3 * (1 + 1 / 3)) ** 0.5
    assert pooled_interval([1.0, 2.0, 3.0], [[10.0, 14.0]]) == pytest.approx((2 - half, 2 + half), abs=1e-4)
    half = 3.18245 * (10 / 3 * (1 + 1 / 2)) ** 0.5
    assert pooled_interval([10.0, 14.0], [[1.0, 2.0, 3.0]]) == pytest.approx((12 - half, 12 + half), abs=1e-4)


def test_single_values_have_no_spread_of_their_own_and_take_that_of_others() -> None:
    assert pooled_interval([1.0]) is None and pooled_interval([1.0], [[2.0], []]) is None
    half = 12.70620 * (2 * 2) ** 0.5  # s² = 2 of 5 and 7, one degree of freedom, and sqrt(1 + 1)
    assert pooled_interval([1.0], [[5.0, 7.0]]) == pytest.approx((1 - half, 1 + half), abs=1e-3)


def test_models_are_counted_by_seed_with_the_spread_of_all_seeds() -> None:
    """s² = (2 + 0.02) / 4 = 0.505 and t = 2.77645 for 4 degrees of freedom: half a width of 2.278 about 2 and 0.2."""
    cells = [cell(0, (1.0, 2.0, 3.0), deep=4.27, delete=4.29), cell(1, (0.1, 0.2, 0.3), deep=2.47, delete=-2.09)]
    assert count_inside(cells, "deep") == Count(2, 2)
    assert count_inside(cells, "delete") == Count(0, 2)
    alone = [cell(1, (0.1, 0.2, 0.3), deep=2.47)]  # 4.30265 * 0.1 * 1.1547 = 0.497
    assert count_inside(alone, "deep") == Count(0, 1)


def test_other_figures_requests_and_events_have_spreads_of_their_own() -> None:
    wide = cell(1, (0.0, 5.0, 10.0), figure="steps", deep=30.0)
    assert count_inside([cell(0, (0.1, 0.2, 0.3), deep=1.0), wide], "deep") == Count(0, 2)
    other = FigureCell(seed=1, event="r3", request="r1", figure="probe", oracles=(0.0, 5.0, 10.0), models={})
    assert count_inside([cell(0, (0.1, 0.2, 0.3), deep=1.0), other], "deep") == Count(0, 1)


def test_a_model_without_a_figure_is_not_counted_and_oracles_that_agree_leave_no_room() -> None:
    assert count_inside([cell(0, (0.5, 0.5, 0.5))], "deep") == Count(0, 0)
    assert Count(0, 0).share is None and Count(1, 4).share == 0.25
    assert count_inside([cell(0, (0.5, 0.5, 0.5), deep=0.5)], "deep") == Count(1, 1)
    assert count_inside([cell(0, (0.5, 0.5, 0.5), deep=0.51)], "deep") == Count(0, 1)
    assert count_inside([cell(0, (0.5,), deep=0.5)], "deep") == Count(0, 0), "no spread, no verdict"


def test_each_oracle_is_left_out_in_turn_and_judged_by_the_others() -> None:
    """0 beside 1 and 1.01 is far outside; 1 beside 0 and 1.01 is inside, since two values tell little."""
    assert count_left_out([cell(0, (0.0, 1.0, 1.01))]) == Count(2, 3)
    assert count_left_out([cell(0, (0.0, 1.0))]) == Count(0, 0)


def test_the_oracles_of_other_seeds_are_part_of_the_spread_of_the_others() -> None:
    """Without 0: squares 0.00005 of 1 and 1.01, and 2 of the other seed with 2 more degrees of freedom.

    s² = 0.66668, t = 3.18245, sqrt(1 + 1/2) = 1.22474: half a width of 3.182 about 1.005. The second seed's ends are
    further from its mean than the first one's, and all three are inside too.
    """
    assert count_left_out([cell(0, (0.0, 1.0, 1.01)), cell(1, (4.0, 5.0, 6.0))]) == Count(6, 6)
