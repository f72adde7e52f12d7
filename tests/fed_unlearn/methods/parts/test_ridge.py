"""The ridge head from sums: beside independent solvers, and beside sums that never had what was taken away."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from fed_unlearn.errors import EmptySetError, InvalidDataError, InvalidParameterError
from fed_unlearn.methods.parts.ridge import FEATURE_STEP, MOST_EXACT, RidgeStatistics

CLASSES, FEATURES, COUNT = 4, 12, 300
PENALTY = 0.7


def drawn(count: int = COUNT, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features that are whole multiples of the step, so that independent solvers see the same numbers."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, FEATURES, generator=generator, dtype=torch.float64) * 3 + 1
    labels = torch.randint(CLASSES, (count,), generator=generator)
    return (features / FEATURE_STEP).round() * FEATURE_STEP, labels


def of(features: Tensor, labels: Tensor) -> RidgeStatistics:
    return RidgeStatistics.of(features, labels, CLASSES)


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def one_hot(labels: Tensor) -> np.ndarray:
    return np.eye(CLASSES)[labels.numpy()]


def test_the_head_is_that_of_scikit_learn() -> None:
    features, labels = drawn()
    weight, bias = of(features, labels).solve(PENALTY)
    other = Ridge(alpha=PENALTY, solver="svd").fit(features.numpy(), one_hot(labels))
    assert relative(weight, other.coef_) < 1e-9
    assert relative(bias, other.intercept_) < 1e-9


def test_without_an_intercept_the_head_is_that_of_least_squares_over_the_stacked_penalty() -> None:
    # ||Z w - y||^2 + p ||w||^2 = ||[Z; sqrt(p) I] w - [y; 0]||^2
    features, labels = drawn()
    weight, bias = of(features, labels).solve(PENALTY, intercept=False)
    stacked = np.vstack([features.numpy(), np.sqrt(PENALTY) * np.eye(FEATURES)])
    targets = np.vstack([one_hot(labels), np.zeros((FEATURES, CLASSES))])
    expected, *_ = np.linalg.lstsq(stacked, targets, rcond=None)
    assert relative(weight, expected.T) < 1e-9
    assert not bias.any()


def test_sums_are_the_same_bits_in_any_order_and_in_any_parts() -> None:
    features, labels = drawn()
    whole = of(features, labels)
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(1))
    parts = [of(features[part], labels[part]) for part in order.split(17)]
    added = RidgeStatistics.empty(CLASSES, FEATURES)
    for part in reversed(parts):
        added = added + part
    assert added.is_same(whole)
    assert added.count == COUNT


def test_what_is_taken_away_leaves_the_bits_of_sums_that_never_had_it() -> None:
    features, labels = drawn()
    generator = torch.Generator().manual_seed(2)
    statistics, present = of(features, labels), torch.ones(COUNT, dtype=torch.bool)
    for turn in range(30):
        chosen = torch.rand(COUNT, generator=generator) < 0.1
        if turn % 3 == 2:  # some come back
            chosen &= ~present
            statistics = statistics + of(features[chosen], labels[chosen])
        else:
            chosen &= present
            statistics = statistics.without(of(features[chosen], labels[chosen]))
        present ^= chosen
        assert statistics.is_same(of(features[present], labels[present]))
    weight, bias = statistics.solve(PENALTY)
    again, bias_again = of(features[present], labels[present]).solve(PENALTY)
    assert np.array_equal(weight, again)
    assert np.array_equal(bias, bias_again)


def test_features_are_rounded_to_the_step() -> None:
    features = torch.tensor([[0.3, 1.0]], dtype=torch.float64)
    statistics = RidgeStatistics.of(features, torch.tensor([1]), 2, step=0.25)
    assert statistics.sums.tolist() == [[0.0, 0.0], [1.0, 4.0]]  # 0.25 and 1.0
    assert statistics.products.tolist() == [[1.0, 4.0], [4.0, 16.0]]
    assert statistics.counts.tolist() == [0, 1]


def test_a_class_without_a_sample_is_never_the_largest() -> None:
    features, labels = drawn()
    kept = labels != 2
    weight, bias = of(features[kept], labels[kept]).solve(PENALTY)
    logits = features.numpy() @ weight.T + bias
    assert not weight[2].any()
    assert bias[2] == 0
    assert np.allclose(logits.sum(1), 1)
    assert not (logits.argmax(1) == 2).any()


def test_the_penalty_goes_with_the_scale_of_the_features() -> None:
    features, labels = drawn()
    statistics, larger = of(features, labels), of(4 * features, labels)
    assert statistics.penalty_of(0.5) == pytest.approx(0.5 * float((features**2).sum()) / FEATURES)
    weight, bias = statistics.solve(statistics.penalty_of(0.5))
    other, other_bias = larger.solve(larger.penalty_of(0.5))
    assert np.allclose(weight, 4 * other)
    assert np.allclose(bias, other_bias)


def test_more_than_is_there_cannot_be_taken_away() -> None:
    features, labels = drawn()
    with pytest.raises(InvalidDataError, match="300 samples were to be taken out of 100, and of class"):
        of(features[:100], labels[:100]).without(of(features, labels))


def test_sums_that_are_not_exact_are_refused() -> None:
    large = torch.full((1, 2), 2.0**27 * FEATURE_STEP, dtype=torch.float64)  # squared: 2 ** 54 steps
    for features in (large, torch.full((1, 2), torch.nan, dtype=torch.float64)):
        with pytest.raises(InvalidDataError, match="expected finite features, and a larger step"):
            RidgeStatistics.of(features, torch.tensor([0]), 2)
    half = torch.full((1, 2), 2.0**26 * FEATURE_STEP, dtype=torch.float64)
    statistics = RidgeStatistics.of(half, torch.tensor([0]), 2)
    assert statistics.products.max() == 2.0**52
    with pytest.raises(InvalidDataError, match=re.escape(f"exact below {MOST_EXACT:g}")):
        statistics + statistics


def test_statistics_of_other_models_and_settings_do_not_add() -> None:
    features, labels = drawn()
    for other in (RidgeStatistics.of(features[:, 1:], labels, CLASSES), RidgeStatistics.of(features, labels, 4, 0.5)):
        with pytest.raises(InvalidDataError, match="the same model and settings on both sides"):
            of(features, labels) + other


def test_no_sample_no_penalty_and_no_feature_are_refused() -> None:
    features, labels = drawn()
    with pytest.raises(EmptySetError, match="there is no sample"):
        RidgeStatistics.empty(CLASSES, FEATURES).solve(PENALTY)
    with pytest.raises(InvalidParameterError, match="penalty = 0 was given"):
        of(features, labels).solve(0)
    with pytest.raises(InvalidDataError, match="all 12 features of all 300 samples are below"):
        of(0 * features, labels).penalty_of(1)
