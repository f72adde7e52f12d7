"""Figures of histograms against those of the scores themselves: scikit-learn's, and within the stated bounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score, roc_curve

from fed_unlearn.audits.outputs.score_histograms import (
    BIN_COUNT,
    CALLED,
    EDGE,
    largest_error,
    ranking_auc,
    recall_where_few_are_called,
    score_histogram,
)


def drawn(seed: int, high: int = 60, low: int = 500, shift: float = 1.5, scale: float = 3.0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.normal(shift, scale, high), random.normal(-shift, scale, low)]


def labelled(sides: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([np.ones(len(sides[0])), np.zeros(len(sides[1]))]), np.concatenate(sides)


def histograms(sides: list[np.ndarray]) -> list[tuple[int, ...]]:
    return [score_histogram(torch.tensor(side)) for side in sides]


def binned(side: np.ndarray) -> np.ndarray:
    return np.floor((np.arcsinh(side).clip(-EDGE, EDGE) + EDGE) / (2 * EDGE) * BIN_COUNT).clip(0, BIN_COUNT - 1)


@pytest.mark.parametrize("seed", range(5))
def test_the_auc_is_scikit_learn_s_of_the_bins_and_within_its_bound_of_the_scores(seed: int) -> None:
    sides = drawn(seed, scale=0.05 * 4**seed)
    high, low = histograms(sides)
    measured = ranking_auc(high, low)
    assert measured.value == pytest.approx(roc_auc_score(*labelled([binned(side) for side in sides])), abs=1e-9)
    exact, error = roc_auc_score(*labelled(sides)), largest_error(high, low)
    assert measured.value is not None and abs(measured.value - exact) <= error + 1e-12
    pairs = sum(int((binned(sides[1]) == value).sum()) for value in binned(sides[0]))
    assert error == pytest.approx(pairs / 2 / (len(sides[0]) * len(sides[1])), abs=1e-12)
    assert measured.interval is not None and measured.interval[0] <= exact <= measured.interval[1]


@pytest.mark.parametrize("seed", range(8))
def test_the_recall_is_within_its_bin_of_the_largest_one_at_which_5_percent_are_called(seed: int) -> None:
    sides = drawn(seed, low=400 + 7 * seed, scale=2.0**seed / 8)
    high, low = histograms(sides)
    false, true, _ = roc_curve(*labelled(sides), drop_intermediate=False)
    exact = true[false <= CALLED + 1e-12].max()
    measured = recall_where_few_are_called(high, low)
    called = np.cumsum(np.asarray(low)[::-1])
    place = int(np.argmax(called > CALLED * sum(low) + 1e-9))
    bin_share = high[::-1][place] / sum(high)
    assert measured.value is not None and abs(measured.value - exact) <= bin_share + 1e-12
    assert measured.interval is not None and measured.interval[0] <= measured.value <= measured.interval[1]


def test_the_recall_of_coarse_bins_by_hand() -> None:
    high, low = [0] * BIN_COUNT, [0] * BIN_COUNT
    low[10], low[20], high[20], high[30] = 92, 8, 4, 6
    assert recall_where_few_are_called(high, low).value == pytest.approx(0.6 + 0.4 * 5 / 8)


def test_sides_that_are_apart_have_figures_of_0_and_1_and_an_interval_of_some_width() -> None:
    high, low = histograms([np.full(30, 5.0), np.full(100, -5.0)])
    for measured, value in ((ranking_auc(high, low), 1.0), (recall_where_few_are_called(high, low), 1.0)):
        assert measured.value == value and measured.interval is not None and measured.interval[0] < 1
    assert recall_where_few_are_called(low, high).value == 0.0 == ranking_auc(low, high).value
    assert ranking_auc((), low).value is None and recall_where_few_are_called(high, ()).value is None


def test_scores_outside_fall_into_the_end_bins_and_what_is_no_number_does_not_count() -> None:
    counts = score_histogram(torch.tensor([torch.nan, -torch.inf, -1e9, torch.inf, 1e9]))
    assert (counts[0], counts[-1], sum(counts)) == (2, 2, 4)


def test_intervals_hold_the_true_values_in_19_of_20_draws() -> None:
    everything = drawn(99, 200_000, 200_000)
    auc = roc_auc_score(*labelled(everything))
    recall = float((everything[0] > np.quantile(everything[1], 1 - CALLED)).mean())
    held = np.zeros(2)
    for seed in range(300):
        sides = histograms(drawn(seed, 40, 300))
        for index, (measured, true) in enumerate(
            ((ranking_auc(*sides), auc), (recall_where_few_are_called(*sides), recall))
        ):
            assert measured.interval is not None
            held[index] += measured.interval[0] <= true <= measured.interval[1]
    assert (held >= 0.93 * 300).all(), held
