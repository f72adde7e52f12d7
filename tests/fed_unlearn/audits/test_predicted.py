"""Prediction intervals, held against scipy."""

from __future__ import annotations

import math

import pytest
from scipy.stats import norm, t

from fed_unlearn.audits.intervals import wilson_interval
from fed_unlearn.audits.measured import Measured
from fed_unlearn.audits.predicted import predicted_figures, prediction, share_prediction


def test_the_interval_is_the_mean_and_what_one_more_value_scatters() -> None:
    found = prediction([1.0, 2.0, 4.0])
    half = t.ppf(0.975, 2) * math.sqrt(7 / 3) * math.sqrt(4 / 3)  # variance (16 + 1 + 25) / 9 / 2
    assert found.value == pytest.approx(7 / 3)
    assert found.interval == pytest.approx((7 / 3 - half, 7 / 3 + half), rel=1e-6)
    assert prediction([1.0, 2.0]) == Measured(1.5) and prediction([]) == Measured(None)


def test_shares_scatter_on_the_scale_of_the_normal_quantile_and_stay_inside() -> None:
    found = share_prediction([0.2, 0.5, 1.0], [20, 20, 20])
    scale = prediction([norm.ppf(0.2), 0.0, norm.ppf(0.975)])
    assert scale.interval is not None and found.interval is not None
    assert found.interval == pytest.approx(norm.cdf(scale.interval), abs=1e-9)
    assert 0 < found.interval[0] < 0.2 and 0.99 < found.interval[1] < 1


def test_only_figures_of_all_models_are_predicted() -> None:
    models = [{"a": Measured(value), "b": Measured(None if value > 2 else 1.0)} for value in (1.0, 2.0, 3.0)]
    assert set(predicted_figures(models)) == {"a"} and predicted_figures([]) == {}
    assert predicted_figures(models)["a"] == prediction([1.0, 2.0, 3.0])


def test_models_that_agree_leave_the_room_of_their_own_intervals() -> None:
    nobody = Measured(0.0, wilson_interval(0, 100))
    found = predicted_figures([{"recall": nobody}] * 3)["recall"]
    assert found == nobody and found.interval is not None
    few, many = wilson_interval(1, 100), wilson_interval(20, 100)
    assert 0 < few[0] < found.interval[1] < many[0], "one sample of a hundred is chance, and twenty are not"
    half = t.ppf(0.975, 2) * 0.05 * math.sqrt(4 / 3)
    assert predicted_figures([{"steps": Measured(1.0)}] * 3)["steps"].interval == pytest.approx((1 - half, 1 + half))
    assert predicted_figures([{"steps": Measured(1.0)}] * 2)["steps"] == Measured(1.0)
