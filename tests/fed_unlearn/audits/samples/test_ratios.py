"""Likelihood ratios of held-out models, against scipy, scikit-learn and brute force."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve
from torch import Tensor

from fed_unlearn.audits.samples.ratios import (
    LEAST_SPREAD,
    Gaussian,
    HeldOutRatios,
    interval_over,
    interval_over_models,
    true_positive_rate,
)
from fed_unlearn.errors import EmptySetError, InvalidParameterError


def drawn(models: int, samples: int, seed: int, mean: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(models, samples, generator=generator, dtype=torch.float64) * 2 + mean


def fitted(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), math.sqrt(float(values.var(ddof=1)) + LEAST_SPREAD**2)


def test_densities_are_those_of_scipy() -> None:
    values = drawn(6, 3, 0)
    fit = Gaussian.of(values)
    for sample in range(3):
        mean, spread = fitted(values[:, sample].numpy())
        expected = norm.logpdf(1.7, mean, spread) + math.log(2 * math.pi) / 2
        assert float(fit.log_density(torch.full((3,), 1.7, dtype=torch.float64))[sample]) == pytest.approx(
            expected, abs=1e-9
        )


def test_each_pair_of_models_is_judged_by_fits_without_it() -> None:
    unlearned, retrained = drawn(5, 3, 1, mean=1.0), drawn(4, 3, 2)
    ratios = HeldOutRatios.of(unlearned, retrained)
    assert ratios.unlearned.shape == ratios.retrained.shape == (5, 4, 3)
    for first, second, sample in product(range(5), range(4), range(3)):
        alike = fitted(np.delete(unlearned[:, sample].numpy(), first))
        others = fitted(np.delete(retrained[:, sample].numpy(), second))
        for held_out, found in (
            (float(unlearned[first, sample]), ratios.unlearned),
            (float(retrained[second, sample]), ratios.retrained),
        ):
            expected = norm.logpdf(held_out, *alike) - norm.logpdf(held_out, *others)
            assert float(found[first, second, sample]) == pytest.approx(expected, abs=1e-9)


def test_figures_of_samples_are_those_of_scikit_learn_pair_by_pair() -> None:
    unlearned, retrained = drawn(5, 3, 1, mean=1.0), drawn(4, 3, 2)
    ratios = HeldOutRatios.of(unlearned, retrained)
    for sample in range(3):
        aucs, accuracies = [], []
        for first, second in product(range(5), range(4)):
            scores = [float(side[first, second, sample]) for side in (ratios.unlearned, ratios.retrained)]
            aucs.append(roc_auc_score([1, 0], scores))
            accuracies.append(balanced_accuracy_score([1, 0], [int(score > 0) for score in scores]))
        assert float(ratios.aucs()[sample]) == pytest.approx(np.mean(aucs), abs=1e-9)
        wins = np.array(aucs).reshape(5, 4)
        variance = np.var(wins.mean(1), ddof=1) / 5 + np.var(wins.mean(0), ddof=1) / 4
        assert float(ratios.errors()[sample]) == pytest.approx(math.sqrt(variance), abs=1e-9)
        assert float(ratios.accuracies()[sample]) == pytest.approx(np.mean(accuracies), abs=1e-9)
    unlearned_scores, retrained_scores = ratios.scores()
    assert torch.allclose(unlearned_scores[2], ratios.unlearned[2].mean(0))
    assert torch.allclose(retrained_scores[3], ratios.retrained[:, 3].mean(0))


def test_models_that_are_alike_score_a_half_and_equal_ones_exactly() -> None:
    aucs = HeldOutRatios.of(drawn(16, 400, 3), drawn(16, 400, 4)).aucs()
    assert float(aucs.mean()) == pytest.approx(0.5, abs=4 * float(aucs.std()) / 20)
    same = torch.zeros(4, 2, dtype=torch.float64)
    assert HeldOutRatios.of(same, same).aucs().tolist() == [0.5, 0.5]
    assert HeldOutRatios.of(same, same).accuracies().tolist() == [0.5, 0.5]


def test_models_that_are_unsurer_or_only_more_alike_are_told_too() -> None:
    retrained = drawn(16, 20, 6)
    assert float(HeldOutRatios.of(drawn(16, 20, 5, mean=-12.0), retrained).aucs().min()) > 0.99
    assert float(HeldOutRatios.of(drawn(16, 20, 5) / 10, retrained).aucs().mean()) > 0.8


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1, 0.5])
def test_the_true_positive_rate_is_the_largest_of_scikit_learns_curve(rate: float) -> None:
    generator = torch.Generator().manual_seed(8)
    positives = torch.randint(0, 30, (90,), generator=generator).double() + 4  # with ties
    negatives = torch.randint(0, 30, (210,), generator=generator).double()
    labels, scores = [1] * 90 + [0] * 210, torch.cat([positives, negatives]).tolist()
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert true_positive_rate(positives, negatives, rate) == pytest.approx(max(true[false <= rate]), abs=1e-12)


def test_the_true_positive_rate_needs_both_sides_and_a_rate() -> None:
    with pytest.raises(EmptySetError, match="0 positives and 3 negatives"):
        true_positive_rate(torch.empty(0), torch.zeros(3), 0.1)
    with pytest.raises(InvalidParameterError, match=r"false positive rate 1\.0 was given"):
        true_positive_rate(torch.zeros(3), torch.zeros(3), 1.0)


def test_the_interval_is_of_samples_drawn_among_those_given() -> None:
    values = torch.cat([torch.full((5,), 100.0), drawn(1, 40, 9).flatten()]).double()
    group = torch.arange(5, 45)

    def figure(chosen: Tensor) -> float:
        return float(values[chosen].mean())

    low, high = interval_over(group, figure, 3, "mean")
    mean, error = float(values[group].mean()), float(values[group].std()) / math.sqrt(40)
    assert (low, high) == pytest.approx((mean - 1.96 * error, mean + 1.96 * error), abs=0.2 * error)
    assert (low, high) == interval_over(group, figure, 3, "mean") != interval_over(group, figure, 4, "mean")


def test_the_interval_of_models_and_samples_knows_that_the_samples_share_the_models() -> None:
    generator = torch.Generator().manual_seed(11)
    covered, covered_by_samples = 0, 0
    for trial in range(20):
        shared = [torch.randn(12, 1, generator=generator, dtype=torch.float64) * 2 for _ in range(2)]
        ratios = HeldOutRatios.of(*(side + drawn(12, 6, 2 * trial + kind) / 2 for kind, side in enumerate(shared)))
        wins = ratios.wins()

        def auc(ours: Tensor, theirs: Tensor, samples: Tensor, wins: Tensor = wins) -> float:
            return float(wins[ours][:, theirs][:, :, samples].mean())

        def auc_of_samples(samples: Tensor, wins: Tensor = wins) -> float:
            return float(wins[:, :, samples].mean())

        low, high = interval_over_models((12, 12, 6), auc, trial, "auc")
        covered += low <= 0.5 <= high
        low, high = interval_over(torch.arange(6), auc_of_samples, trial, "auc")
        covered_by_samples += low <= 0.5 <= high
    assert covered >= 15 and covered_by_samples <= 12  # in 120 trials 0.87 and 0.51 of them
