"""Student's distribution against scipy."""

from __future__ import annotations

import pytest
from scipy import stats

from fed_unlearn.audits.oracles.student import upper_quantile, upper_tail


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 20, 101])
def test_tails_and_quantiles_are_those_of_scipy(freedom: int) -> None:
    for statistic in (-5.0, -0.3, 0.0, 0.7, 2.0, 12.0):
        assert upper_tail(statistic, freedom) == pytest.approx(stats.t.sf(statistic, freedom), abs=1e-12)
    for probability in (0.5, 0.2, 0.025, 0.001):
        assert upper_quantile(probability, freedom) == pytest.approx(
            stats.t.isf(probability, freedom), rel=1e-8, abs=1e-12
        )
