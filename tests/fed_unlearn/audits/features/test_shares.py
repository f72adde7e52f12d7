import numpy as np
import pytest
from scipy.stats import binomtest, t
from sklearn.metrics import balanced_accuracy_score

from fed_unlearn.audits.features.shares import balanced_accuracy, recall


def wilson(hits: int, total: int) -> tuple[float, float]:
    found = binomtest(hits, total).proportion_ci(0.95, method="wilson")
    return found.low, found.high


def test_the_figure_is_that_of_scikit_learn() -> None:
    truth, called = np.array([1] * 12 + [0] * 30), np.array([1] * 9 + [0] * 3 + [1] * 4 + [0] * 26)
    measured = balanced_accuracy([9], 12, [26], 30)
    assert measured.value == pytest.approx(balanced_accuracy_score(truth, called), abs=1e-12)
    assert recall([9], 12).value == 0.75 and recall([9], 12).interval == pytest.approx(wilson(9, 12))


def test_draws_are_averaged_and_widen_the_interval() -> None:
    alike, apart = (balanced_accuracy([found] * 10 + [20 - found] * 10, 20, [90] * 20, 100) for found in (10, 2))
    assert alike.value == apart.value == pytest.approx((0.5 + 0.9) / 2)
    assert alike.interval is not None and apart.interval is not None
    assert apart.interval[0] < alike.interval[0] < 0.7 < alike.interval[1] < apart.interval[1]


def test_the_mean_over_draws_has_student_s_interval_beside_that_of_the_samples() -> None:
    found = [3, 9, 6, 7, 10]
    error = t.ppf(0.975, 4) * np.std(found, ddof=1) / 10 / np.sqrt(5)
    low, high = wilson(7, 10)
    measured = recall(found, 10)
    assert measured.value == pytest.approx(0.7)
    assert measured.interval == pytest.approx(
        (0.7 - np.hypot(0.7 - low, error), min(1, 0.7 + np.hypot(high - 0.7, error)))
    )


def test_one_draw_is_covered_in_19_of_20_cases() -> None:
    random = np.random.default_rng(0)
    found, apart = random.binomial(40, 0.9, size=2000), random.binomial(60, 0.7, size=2000)
    ends = [balanced_accuracy([one], 40, [other], 60).interval for one, other in zip(found, apart, strict=True)]
    assert np.mean([low <= 0.8 <= high for low, high in ends]) == pytest.approx(0.95, abs=0.02)  # type: ignore[misc]


def test_nothing_to_count_is_no_figure() -> None:
    assert recall([], 5).value is recall([0], 0).value is None
    assert balanced_accuracy([1], 1, [0], 0).value is balanced_accuracy([], 1, [], 1).value is None
