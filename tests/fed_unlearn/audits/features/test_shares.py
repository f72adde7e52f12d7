import numpy as np
import pytest
from scipy.stats import binomtest, t
from sklearn.metrics import balanced_accuracy_score

from fed_unlearn.audits.features.alignment import GROUPS, STUDENT_OF_GROUPS
from fed_unlearn.audits.features.few_samples import DRAWS
from fed_unlearn.audits.features.shares import STUDENT_OF_DRAWS, balanced_accuracy, recall, wilson


@pytest.mark.parametrize(("hits", "total"), [(0, 7), (1, 7), (7, 7), (842, 1000), (3, 2000)])
def test_intervals_of_shares_are_those_of_scipy(hits: int, total: int) -> None:
    expected = binomtest(hits, total).proportion_ci(0.95, method="wilson")
    assert wilson(hits / total, total) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_student_quantiles_are_those_of_scipy() -> None:
    expected = [t.ppf(0.975, count - 1) for count in (DRAWS, GROUPS)]
    assert pytest.approx(expected, abs=1e-12) == [STUDENT_OF_DRAWS, STUDENT_OF_GROUPS]


def test_the_figure_is_that_of_scikit_learn() -> None:
    truth, called = np.array([1] * 12 + [0] * 30), np.array([1] * 9 + [0] * 3 + [1] * 4 + [0] * 26)
    measured = balanced_accuracy([9], 12, [26], 30)
    assert measured.value == pytest.approx(balanced_accuracy_score(truth, called), abs=1e-12)
    assert recall([9], 12).value == 0.75 and recall([9], 12).interval == pytest.approx(wilson(0.75, 12))


def test_draws_are_averaged_and_widen_the_interval() -> None:
    alike, apart = (balanced_accuracy([found] * 10 + [20 - found] * 10, 20, [90] * 20, 100) for found in (10, 2))
    assert alike.value == apart.value == pytest.approx((0.5 + 0.9) / 2)
    assert alike.interval is not None and apart.interval is not None
    assert apart.interval[0] < alike.interval[0] < 0.7 < alike.interval[1] < apart.interval[1]


def test_one_draw_is_covered_in_19_of_20_cases() -> None:
    random = np.random.default_rng(0)
    found, apart = random.binomial(40, 0.9, size=2000), random.binomial(60, 0.7, size=2000)
    ends = [balanced_accuracy([one], 40, [other], 60).interval for one, other in zip(found, apart, strict=True)]
    assert np.mean([low <= 0.8 <= high for low, high in ends]) == pytest.approx(0.95, abs=0.02)  # type: ignore[misc]


def test_nothing_to_count_is_no_figure() -> None:
    assert recall([], 5).value is recall([0], 0).value is None
    assert balanced_accuracy([1], 1, [0], 0).value is balanced_accuracy([], 1, [], 1).value is None
