import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from fed_unlearn.audits.membership import BIN_COUNT, confidence_histogram, membership_auc
from fed_unlearn.errors import EmptySetError


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
