import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from torch import Tensor

from fed_unlearn.audits.membership import (
    BIN_COUNT,
    confidence_histogram,
    exact_membership_auc,
    membership_auc,
    membership_auc_interval,
    membership_interval,
    sample_losses,
)
from fed_unlearn.errors import EmptySetError, InvalidDataError, InvalidParameterError


def random_logits(seed: int, count: int, shift: float, classes: int = 10) -> tuple[Tensor, Tensor]:
    """Logits whose true class stands out by about ``shift``."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=generator)
    logits = 2 * torch.randn(count, classes, generator=generator)
    return logits + shift * torch.nn.functional.one_hot(labels, classes), labels


def losses(logits: Tensor, labels: Tensor) -> NDArray[np.float64]:
    """Cross-entropy of each sample, in double precision."""
    values: NDArray[np.float64] = torch.nn.functional.cross_entropy(logits.double(), labels, reduction="none").numpy()
    return values


def sklearn_auc(members: tuple[Tensor, Tensor], outsiders: tuple[Tensor, Tensor]) -> float:
    """The attack that says "member" the surer the lower the loss."""
    scores = -np.concatenate([losses(*members), losses(*outsiders)])
    truth = np.concatenate([np.ones(len(members[1])), np.zeros(len(outsiders[1]))])
    return float(roc_auc_score(truth, scores))


@pytest.mark.parametrize("shift", [-4.0, 0.0, 0.5, 2.0, 6.0])
def test_auc_is_that_of_scikit_learn_on_random_logits(shift: float) -> None:
    members, outsiders = random_logits(0, 700, shift), random_logits(1, 300, 0.0)
    found = membership_auc(confidence_histogram(*members), confidence_histogram(*outsiders))
    assert found == pytest.approx(sklearn_auc(members, outsiders), abs=0.01)


@pytest.mark.parametrize("shift", [-25.0, 25.0])
def test_auc_is_exact_for_sets_far_apart(shift: float) -> None:
    members, outsiders = random_logits(0, 200, shift), random_logits(1, 100, 0.0)
    found = membership_auc(confidence_histogram(*members), confidence_histogram(*outsiders))
    assert found == sklearn_auc(members, outsiders) == (1.0 if shift > 0 else 0.0)


def test_auc_of_scores_one_to_a_bin_is_exact() -> None:
    """Two classes: the score is the difference of the logits, here in the middle of its own bin of width 0.2."""
    scores = torch.arange(-9, 10) * 0.6 + 0.1
    logits = torch.stack([scores, torch.zeros_like(scores)], dim=1)
    labels = torch.zeros(len(scores), dtype=torch.int64)
    mine = torch.randperm(len(scores), generator=torch.Generator().manual_seed(0)) < 8
    members, outsiders = (logits[mine], labels[mine]), (logits[~mine], labels[~mine])
    found = membership_auc(confidence_histogram(*members), confidence_histogram(*outsiders))
    assert found == pytest.approx(sklearn_auc(members, outsiders), abs=1e-12)
    assert max(confidence_histogram(logits, labels)) == 1


def test_auc_of_a_set_with_itself_is_a_half() -> None:
    histogram = confidence_histogram(*random_logits(0, 100, 1.0))
    assert membership_auc(histogram, histogram) == 0.5


def test_auc_by_hand() -> None:
    """Pairs: 3 of 4 members are above the outsider at 1, half of the tie at 1 counts; 1 beats the one at 2."""
    members, outsiders = [0, 1, 2, 1], [0, 1, 1, 0]
    wins = 3 + 1 / 2 + 1 + 2 / 2
    assert membership_auc(members, outsiders) == wins / (4 * 2)


def test_histograms_of_clients_add_up_to_the_pooled_one() -> None:
    logits, labels = random_logits(2, 90, 1.0)
    parts = [confidence_histogram(logits[rows], labels[rows]) for rows in torch.arange(90).split([10, 0, 35, 45])]
    pooled = confidence_histogram(logits, labels)
    assert np.sum(parts, axis=0).tolist() == pooled
    assert len(pooled) == BIN_COUNT and sum(pooled) == 90


def test_the_histogram_is_that_of_numpy_on_the_logit_of_the_probability() -> None:
    logits, labels = random_logits(3, 500, 3.0)
    probability = np.exp(-losses(logits, labels))
    score = np.log(probability) - np.log1p(-probability)
    expected = np.histogram(np.clip(score, -20, 20), bins=BIN_COUNT, range=(-20, 20))[0]
    assert np.abs(expected - confidence_histogram(logits, labels)).sum() <= 2  # A sample on an edge may move by one.


def test_scores_beyond_the_edges_stand_in_the_end_bins() -> None:
    histogram = confidence_histogram(torch.tensor([[1e30, 0.0], [-500.0, 500.0]]), torch.tensor([0, 0]))
    assert (histogram[0], histogram[-1], sum(histogram)) == (1, 1, 2)


def test_nobody_to_tell_apart() -> None:
    nobody = confidence_histogram(torch.zeros(0, 10), torch.zeros(0, dtype=torch.int64))
    assert nobody == [0] * BIN_COUNT
    somebody = confidence_histogram(*random_logits(0, 3, 0.0))
    with pytest.raises(EmptySetError, match="0 members and 3 outsiders"):
        membership_auc(nobody, somebody)
    with pytest.raises(EmptySetError, match="3 members and 0 outsiders"):
        membership_auc(somebody, nobody)


def test_losses_are_cross_entropies_and_stay_apart_where_single_precision_does_not_tell_them() -> None:
    logits, labels = random_logits(4, 200, 3.0)
    np.testing.assert_allclose(sample_losses(logits, labels), losses(logits, labels), rtol=1e-9, atol=1e-12)
    sure = torch.tensor([[30.0, 0.0], [40.0, 0.0], [60.0, 0.0]])
    own = torch.zeros(3, dtype=torch.int64)
    assert torch.nn.functional.cross_entropy(sure, own, reduction="none").tolist()[1:] == [0.0, 0.0]
    np.testing.assert_allclose(sample_losses(sure, own), np.exp([-30.0, -40.0, -60.0]), rtol=1e-9)
    assert sample_losses(torch.zeros(0, 0), torch.zeros(0, dtype=torch.int64)).shape == (0,)


@pytest.mark.parametrize("decimals", [0, 1, 12])
@pytest.mark.parametrize(("members", "outsiders"), [(1, 1), (7, 400), (700, 300)])
def test_exact_auc_is_that_of_scikit_learn_with_and_without_ties(members: int, outsiders: int, decimals: int) -> None:
    random = np.random.default_rng(members)
    mine, others = random.exponential(1.0, members).round(decimals), random.exponential(2.0, outsiders).round(decimals)
    truth = np.concatenate([np.ones(members), np.zeros(outsiders)])
    expected = roc_auc_score(truth, -np.concatenate([mine, others]))
    found = exact_membership_auc(torch.from_numpy(mine), torch.from_numpy(others))
    assert found == pytest.approx(expected, abs=1e-12)


def test_the_interval_has_the_width_of_the_mann_whitney_statistic() -> None:
    """Two sets from one distribution: the variance of their AUC is (n + m + 1) / (12 n m)."""
    random = np.random.default_rng(0)
    mine, others = torch.from_numpy(random.normal(size=400)), torch.from_numpy(random.normal(size=250))
    low, high = membership_auc_interval(mine, others, np.random.default_rng(1))
    assert low < exact_membership_auc(mine, others) < high
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(651 / (12 * 400 * 250)), rel=0.1)


def test_the_interval_is_that_of_resampling_with_scikit_learn() -> None:
    random = np.random.default_rng(2)
    mine, others = random.exponential(1.0, 40).round(1), random.exponential(1.5, 30).round(1)
    drawing = np.random.default_rng(3)
    truth = np.concatenate([np.ones(40), np.zeros(30)])
    expected = []
    for _ in range(200):
        scores = [-side[drawing.integers(len(side), size=len(side))] for side in (mine, others)]
        expected.append(roc_auc_score(truth, np.concatenate(scores)))
    found = membership_auc_interval(
        torch.from_numpy(mine), torch.from_numpy(others), np.random.default_rng(3), confidence=0.8, resamples=200
    )
    np.testing.assert_allclose(found, np.quantile(expected, [0.1, 0.9]), atol=1e-12)


def test_losses_that_are_no_numbers_and_empty_sides_are_refused() -> None:
    some, none = torch.tensor([0.5, 1.0]), torch.zeros(0)
    with pytest.raises(EmptySetError, match="0 members and 2 outsiders"):
        exact_membership_auc(none, some)
    with pytest.raises(EmptySetError, match="2 members and 0 outsiders"):
        membership_auc_interval(some, none, np.random.default_rng(0))
    with pytest.raises(InvalidDataError, match="1 of 4 losses are not finite"):
        exact_membership_auc(torch.tensor([torch.nan, 0.0]), some)
    with pytest.raises(InvalidParameterError, match=r"confidence 1\.0 and 1000 resamples were given"):
        membership_auc_interval(some, some, np.random.default_rng(0), confidence=1.0)


def histogram(scores: NDArray[np.float64]) -> list[int]:
    """Scores in [0, 1) in bins of one hundredth."""
    return np.bincount((scores * 100).astype(np.int64), minlength=100).tolist()  # type: ignore[no-any-return]


def delong_ends(members: NDArray[np.float64], outsiders: NDArray[np.float64]) -> tuple[float, float]:
    """On the logit's scale, from the matrix of all pairs."""
    mine, others = (np.floor(side * 100)[:, None] for side in (members, outsiders))
    wins = (mine > others.T) + (mine == others.T) / 2
    auc = wins.mean()
    variance = wins.mean(1).var(ddof=1) / len(members) + wins.mean(0).var(ddof=1) / len(outsiders)
    odds, spread = np.log(auc / (1 - auc)), norm.ppf(0.975) * np.sqrt(variance) / (auc * (1 - auc))
    return float(1 / (1 + np.exp(spread - odds))), float(1 / (1 + np.exp(-spread - odds)))


def newcombe_ends(auc: float, members: int, outsiders: int) -> tuple[float, float]:
    """Where the measured AUC is 1.96 of Hanley and McNeil's standard deviations away, sides of their mean size."""
    size = (members + outsiders) / 2

    def deviations(true: float) -> float:
        first, second = true / (2 - true), 2 * true**2 / (1 + true)
        spread = true * (1 - true) + (size - 1) * (first - true**2 + second - true**2)
        return abs(auc - true) - float(norm.ppf(0.975)) * np.sqrt(spread / (members * outsiders))

    low = brentq(deviations, 1e-12, auc - 1e-9) if auc > 0 else 0.0  # an AUC of 1 is a root itself
    high = brentq(deviations, auc + 1e-9, 1 - 1e-12) if auc < 1 else 1.0
    return low, high


@pytest.mark.parametrize(("members", "outsiders", "power"), [(4, 20, 1.0), (8, 200, 0.7), (32, 60, 2.0), (300, 5, 0.5)])
def test_the_interval_of_histograms_is_that_of_all_pairs(members: int, outsiders: int, power: float) -> None:
    random = np.random.default_rng(members)
    mine, others = random.random(members) ** power, random.random(outsiders)
    found = membership_interval(histogram(mine), histogram(others))
    auc = membership_auc(histogram(mine), histogram(others))
    ends = delong_ends(mine, others), newcombe_ends(auc, members, outsiders)
    np.testing.assert_allclose(found, (min(low for low, _ in ends), max(high for _, high in ends)), atol=1e-9)
    assert found[0] < auc < found[1]


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_the_interval_of_histograms_is_that_of_resampled_losses(power: float) -> None:
    random = np.random.default_rng(7)
    mine, others = random.random(300) ** power, random.random(250)
    losses = (torch.from_numpy(-np.floor(side * 100)) for side in (mine, others))
    resampled = membership_auc_interval(*losses, np.random.default_rng(8), resamples=2000)
    found = membership_interval(histogram(mine), histogram(others))
    np.testing.assert_allclose(found, resampled, atol=0.01)


@pytest.mark.parametrize(("members", "outsiders"), [(4, 60), (16, 20)])
def test_the_interval_of_few_samples_covers_the_true_auc(members: int, outsiders: int) -> None:
    """Uniform against its square root: P(sqrt(u) > v) = 2/3; 400 draws, whose share has a standard error of 0.011."""
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        low, high = membership_interval(histogram(random.random(members) ** 0.5), histogram(random.random(outsiders)))
        covered += low <= 2 / 3 <= high
    assert 0.93 <= covered / 400 <= 0.995


def test_the_interval_stays_honest_without_variance() -> None:
    together = membership_interval([0, 5, 0], [0, 9, 0])
    np.testing.assert_allclose(together, newcombe_ends(0.5, 5, 9), atol=1e-9)
    apart = membership_interval([0, 0, 4], [20, 3, 0])
    assert apart[1] == 1.0 and apart[0] == pytest.approx(newcombe_ends(1.0, 4, 23)[0], abs=1e-9)
    assert membership_interval([20, 3, 0], [0, 0, 4])[0] == 0.0
    low, high = membership_interval([0, 1, 0], [60, 0, 40])
    assert low < 0.1 and high > 0.9
    low, high = membership_interval([0, 1], [1, 0])
    assert low < 0.5 and high == 1.0


def test_the_interval_mirrors_when_sides_swap_and_widens_with_confidence() -> None:
    mine, others = [1, 4, 3, 8], [9, 5, 2, 2]
    low, high = membership_interval(mine, others)
    np.testing.assert_allclose(membership_interval(others, mine), (1 - high, 1 - low), atol=1e-12)
    wide = membership_interval(mine, others, confidence=0.99)
    assert wide[0] < low < high < wide[1]
    with pytest.raises(InvalidParameterError, match=r"confidence 1\.0 was given"):
        membership_interval(mine, others, confidence=1.0)
    with pytest.raises(EmptySetError, match="0 members and 18 outsiders"):
        membership_interval([0, 0, 0, 0], others)
