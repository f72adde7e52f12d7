"""The fingerprint test on planted models: how often it names one that is an oracle, and one that is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from fed_unlearn.audits.measured import Measured
from fed_unlearn.audits.oracles.fingerprint import Fingerprint, fingerprint

FIGURES = 30
Numbers = np.ndarray[tuple[int, int], np.dtype[np.float64]]


def drawn(random: np.random.Generator, models: int) -> Numbers:
    """Figures of models that are made alike, in their standard deviations; three hidden causes move many at once."""
    causes = random.normal(size=(models, 3)) @ random.normal(size=(3, FIGURES)) / math.sqrt(3)
    mixed: Numbers = 0.6 * random.normal(size=(models, FIGURES)) + 0.8 * causes
    return mixed


def result_of(values: Numbers) -> Fingerprint:
    models = [
        {f"figure{index}": Measured(0.8 + 0.01 * value) for index, value in enumerate(row)} for row in values.tolist()
    ]
    found = fingerprint(models[0], models[1:])
    assert found is not None
    return found


@pytest.mark.parametrize("oracles", [2, 3, 6])
def test_one_more_oracle_is_seldom_told_apart(oracles: int) -> None:
    random = np.random.default_rng(0)
    tests = [result_of(drawn(random, oracles + 1)) for _ in range(300)]
    assert np.mean([test.is_told_apart for test in tests]) <= 0.08
    ranks = np.mean([test.rank_p_value <= 1 / (oracles + 1) + 1e-9 for test in tests])
    assert ranks == pytest.approx(1 / (oracles + 1), abs=0.08)


def test_a_planted_model_is_told_apart_by_many_oracles_and_less_by_few() -> None:
    """Five of 30 figures lie ten standard deviations off."""
    random, found = np.random.default_rng(1), {}
    for oracles in (2, 6):
        planted = []
        for _ in range(100):
            values = drawn(random, oracles + 1)
            values[0, :5] += 10
            planted.append(result_of(values))
        found[oracles] = np.mean([test.is_told_apart for test in planted])
        assert {f"figure{index}" for index in range(5)} == set(planted[0].figures[:5])
    assert found[6] >= 0.85 and found[2] <= 0.5


def test_three_oracles_show_a_model_that_is_far_off_everywhere() -> None:
    values = drawn(np.random.default_rng(2), 4)
    values[0] += 20
    test = result_of(values)
    assert test.is_told_apart and test.rank_p_value == 0.25
    assert test.distance > 2 * max(test.oracle_distances)


def test_the_p_value_is_that_of_students_distribution_on_logarithms() -> None:
    test = result_of(drawn(np.random.default_rng(3), 6))
    logarithms = np.log(test.oracle_distances)
    statistic = (math.log(test.distance) - logarithms.mean()) / (logarithms.std(ddof=1) * math.sqrt(1 + 1 / 5))
    assert test.p_value == pytest.approx(stats.t.sf(statistic, 4), abs=1e-9)


def test_figures_that_some_model_lacks_do_not_count() -> None:
    both = {"auc": Measured(0.9, (0.88, 0.92)), "steps": Measured(10)}
    some = {"auc": Measured(0.91, (0.89, 0.93)), "steps": Measured(None)}
    found = fingerprint(both, [some, both])
    assert found is not None and found.figures == ("auc",) and found.to_json()["figures"] == ["auc"]
    assert fingerprint(both, [some]) is None and fingerprint({}, [some, both]) is None


def test_models_that_agree_in_everything_are_not_told_apart() -> None:
    same = {"accuracy": Measured(0.0), "steps": Measured(100)}
    found = fingerprint(same, [same, same, same])
    assert found is not None and found.distance == 0 and not found.is_told_apart and found.rank_p_value == 1
