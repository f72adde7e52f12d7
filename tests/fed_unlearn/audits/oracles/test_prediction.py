"""Prediction intervals against scipy and by simulation, and verdicts on figures whose place is known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from fed_unlearn.audits.measured import Measured
from fed_unlearn.audits.oracles.prediction import Judgement, judge, judge_all, prediction_interval


@pytest.mark.parametrize("values", [[0.1, 0.3], [0.85, 0.86, 0.87], [3.0, -1.0, 4.0, 1.0, 5.0]])
def test_the_interval_is_that_of_scipy(values: list[float]) -> None:
    scale = np.std(values, ddof=1) * math.sqrt(1 + 1 / len(values))
    expected = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=scale)
    assert prediction_interval(values) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("oracles", [2, 3, 5])
def test_one_more_value_lies_in_the_interval_19_times_in_20(oracles: int) -> None:
    draws = np.random.default_rng(0).normal(0.8, 0.02, size=(4000, oracles + 1))
    inside = 0
    for new, *others in draws.tolist():
        interval = prediction_interval(others)
        assert interval is not None
        inside += interval[0] <= new <= interval[1]
    assert inside / len(draws) == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / len(draws)))


def judged(figure: Measured, oracles: Sequence[Measured]) -> Judgement:
    judgement = judge(figure, oracles)
    assert judgement is not None
    return judgement


def beside(value: float, *oracles: float) -> str | None:
    judgement = judge(Measured(value), [Measured(oracle) for oracle in oracles])
    return None if judgement is None else judgement.verdict


def test_a_figure_is_inside_above_or_below() -> None:
    oracles = (0.85, 0.86, 0.87)  # the ends are 0.8103 and 0.9097
    assert [beside(value, *oracles) for value in (0.81, 0.811, 0.909, 0.91)] == ["below", "inside", "inside", "above"]
    assert beside(0.5, 0.85) is None and beside(0.5) is None
    assert judge(Measured(None), [Measured(0.1), Measured(0.2)]) is None


def test_oracles_without_the_figure_do_not_count() -> None:
    assert judged(Measured(0.5), [Measured(0.85), Measured(None), Measured(0.86)]).oracles == 2


def test_what_equals_every_oracle_is_inside() -> None:
    assert beside(0.0, 0.0, 0.0, 0.0) == "inside" and beside(0.3, 0.1 + 0.2, 0.3, 0.3) == "inside"


def test_where_oracles_agree_a_difference_that_the_draw_explains_is_no_flag() -> None:
    """Of 450 samples, Wilson's interval of no hit ends at 0.0085: four hits can be chance, forty cannot."""
    oracles = [Measured(0.0, (0.0, 0.0085))] * 3
    few, many = Measured(3 / 450, (0.0023, 0.0194)), Measured(40 / 450, (0.066, 0.1189))
    assert [judged(figure, oracles).verdict for figure in (few, many)] == ["inside", "above"]


def test_without_intervals_steps_that_agree_allow_a_quarter() -> None:
    """Standard deviation 5 % of 100, times 4.303 sqrt(4/3) = 4.968: 24.8 steps. Of 0 it is 0.01: 0.0497."""
    assert [beside(steps, 100, 100, 100) for steps in (75, 76, 124, 125)] == ["below", "inside", "inside", "above"]
    assert [beside(share, 0, 0, 0) for share in (0.049, 0.051)] == ["inside", "above"]


def test_the_error_of_the_draw_is_added_in_quadrature_and_once() -> None:
    """p = 4.968 * 0.01, and the arms towards each other are 0.03 of the figure's and 0.02 of the oracles'."""
    oracles = [Measured(value, (value - 0.01, value + 0.02)) for value in (0.85, 0.86, 0.87)]
    judgement = judged(Measured(0.9, (0.87, 0.95)), oracles)
    assert judgement.allowed[1] == pytest.approx(0.86 + math.hypot(0.04968, 0.03), abs=1e-4)
    assert judgement.allowed[0] == pytest.approx(0.86 - math.hypot(0.04968, 0.05), abs=1e-4)
    assert judgement.predicted == pytest.approx((0.8103, 0.9097), abs=1e-4)


def test_an_oracle_that_is_left_out_is_flagged_at_most_once_in_20() -> None:
    """Figures of 200 samples each: oracles differ by 0.02, and all are measured on one draw."""
    random, flagged = np.random.default_rng(1), 0
    for _ in range(1000):
        shares = np.clip(random.normal(0.8, 0.02, size=4), 0, 1)
        hits = (random.uniform(size=200) < shares[:, None]).mean(axis=1)
        half = 1.96 * np.sqrt(hits * (1 - hits) / 200)
        new, *others = (
            Measured(float(hit), (float(hit - arm), float(hit + arm))) for hit, arm in zip(hits, half, strict=True)
        )
        flagged += judged(new, others).is_outside
    assert flagged <= 50


def test_all_figures_that_two_oracles_have_are_judged() -> None:
    model = {"probe": Measured(0.95), "steps": Measured(12), "distance": Measured(0.1)}
    oracles = [{"probe": Measured(0.85), "steps": Measured(100)}, {"probe": Measured(0.851), "steps": Measured(104)}]
    found = judge_all(model, oracles)
    assert {name: judgement.verdict for name, judgement in found.items()} == {"probe": "above", "steps": "below"}
    assert found["probe"].to_json()["verdict"] == "above"
