"""Membership of a client's samples class by class, beside scikit-learn's AUC of each class."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from fed_unlearn.audits.base import Judged, Observation
from fed_unlearn.audits.clients.class_histograms import auc_by_class, class_histograms, exact_auc_by_class
from fed_unlearn.audits.clients.client_membership import ClientMembership
from fed_unlearn.audits.membership import BIN_COUNT, membership_interval
from fed_unlearn.data.images import ImageSet
from fed_unlearn.logits import confidence

CLASSES = 4


def judged(seed: int, shares: list[float], count: int, shift: float = 0.0) -> Judged:
    """Random logits; class c is ``3 c`` more certain than class 0, and all are ``shift`` more certain."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(torch.tensor(shares, dtype=torch.float32), count, replacement=True, generator=generator)
    logits = 2 * torch.randn(count, CLASSES, generator=generator)
    logits[torch.arange(count), labels] += 3 * labels + shift
    return Judged.whole(ImageSet(torch.zeros(count, 1, 2, 2), labels), logits)


def seen_by(forget: Judged, validation: Judged | None) -> Observation:
    return Observation(model=nn.Identity(), scope="client", class_count=CLASSES, forget=forget, validation=validation)


def by_class(own: Judged, unseen: Judged, scores: tuple[Tensor, Tensor]) -> float:
    """Scikit-learn's AUC of each class, weighted by the shares of the client's samples."""
    total, weight = 0.0, 0
    for label in range(CLASSES):
        mine, others = (
            score[side.labels == label].double().numpy() for side, score in zip((own, unseen), scores, strict=True)
        )
        if len(mine) and len(others):
            truth = [1] * len(mine) + [0] * len(others)
            total += len(mine) * float(roc_auc_score(truth, np.concatenate([mine, others])))
            weight += len(mine)
    return total / weight


@pytest.mark.parametrize("shift", [-3.0, 0.0, 0.5, 4.0])
@pytest.mark.parametrize("shares", [[1.0, 1, 1, 1], [0.9, 0.1, 0, 0], [0, 0.02, 0, 0.98]])
def test_the_figure_is_that_of_scikit_learn_class_by_class(shift: float, shares: list[float]) -> None:
    own, unseen = judged(0, shares, 150, shift), judged(1, [1, 1, 1, 1], 120)
    scores = confidence(own.logits, own.labels), confidence(unseen.logits, unseen.labels)
    width = 40 / BIN_COUNT
    binned = tuple(((score.clamp(-20, 20 - 1e-3) + 20) / width).floor() for score in scores)
    counts = ClientMembership.count(seen_by(own, unseen))
    assert counts.value == pytest.approx(by_class(own, unseen, binned), abs=1e-9)  # type: ignore[arg-type]
    exact, interval = exact_auc_by_class(scores, (own.labels, unseen.labels))
    assert exact == pytest.approx(by_class(own, unseen, scores), abs=1e-9)
    assert interval is not None and interval[0] < exact < interval[1]
    # Only pairs of one bin can be counted wrongly, and each by a half.
    ties = sum(
        float((own.labels == label).float().mean())
        * float((binned[0][own.labels == label][:, None] == binned[1][unseen.labels == label]).float().mean())
        for label in own.labels.unique().tolist()
    )
    assert abs(counts.value - exact) <= ties / 2


def test_a_client_of_easy_classes_is_no_member_for_that() -> None:
    """All classes together would call every client a member whose classes the model knows well."""
    own, unseen = judged(0, [0, 0, 0, 1], 300), judged(1, [1, 1, 1, 1], 800)
    scores = torch.cat([confidence(side.logits, side.labels) for side in (own, unseen)])
    assert roc_auc_score([1] * 300 + [0] * 800, scores) > 0.8
    counts = ClientMembership.count(seen_by(own, unseen))
    assert counts.value == pytest.approx(0.5, abs=0.06)
    assert counts.interval is not None and counts.interval[0] < 0.5 < counts.interval[1]


def test_counts_of_holders_add_up_to_those_of_all_samples() -> None:
    own, unseen = judged(0, [0.7, 0.1, 0.1, 0.1], 90, 1.0), judged(1, [1, 1, 1, 1], 200)
    nobody = own.where(torch.zeros(90, dtype=torch.bool))
    third = torch.arange(200) % 3
    holders = [
        seen_by(own, unseen.where(third == 0)),
        seen_by(nobody, unseen.where(third == 1)),
        seen_by(nobody, unseen.where(third == 2)),
        seen_by(nobody, None),
    ]
    total = sum((ClientMembership.count(seen) for seen in holders), start=ClientMembership())
    whole = ClientMembership.count(seen_by(own, unseen))
    assert total == whole == ClientMembership.from_numbers(whole.to_numbers())
    assert sum(whole.own) == 90 and sum(whole.unseen) == 200
    assert whole.fits(CLASSES) and not whole.fits(CLASSES + 1) and ClientMembership().fits(CLASSES)
    assert (
        ClientMembership.count(holders[1]).value is None
        and ClientMembership().figures[ClientMembership.name].value is None
    )


def test_of_one_class_the_interval_is_that_of_the_pooled_attack() -> None:
    own, unseen = judged(0, [0, 1, 0, 0], 40, 1.0), judged(1, [0, 1, 0, 0], 70)
    sides = [class_histograms(side, CLASSES) for side in (own, unseen)]
    one = [side[BIN_COUNT : 2 * BIN_COUNT] for side in sides]
    assert auc_by_class(*sides)[1] == pytest.approx(membership_interval(*one), abs=1e-9)


def test_classes_that_one_side_lacks_are_left_out() -> None:
    own, unseen = judged(0, [1, 0, 0, 1], 60, 1.0), judged(1, [1, 1, 0, 0], 60)
    sides = [class_histograms(side, CLASSES) for side in (own, unseen)]
    first = [class_histograms(side.of_classes(torch.tensor([0])), CLASSES) for side in (own, unseen)]
    assert auc_by_class(*sides) == auc_by_class(*first)
    assert auc_by_class(sides[0], class_histograms(judged(1, [0, 1, 0, 0], 9), CLASSES)) == (None, None)
    assert exact_auc_by_class((torch.zeros(2), torch.zeros(2)), (torch.tensor([0, 0]), torch.tensor([1, 1]))) == (
        None,
        None,
    )


@pytest.mark.parametrize(("members", "outsiders", "shift"), [(6, 40, 2.0), (40, 30, 0.0), (60, 120, 3.0)])
def test_intervals_cover_the_true_figure(members: int, outsiders: int, shift: float) -> None:
    """Normal scores of deviation 3 in three classes of different means: the AUC of each is Phi(shift / sqrt(18))."""
    random = np.random.default_rng(0)
    truth = 0.5 * (1 + float(torch.erf(torch.tensor(shift / 6.0))))
    covered, draws, means = 0, 200, np.array([-4.0, 0.0, 3.0])
    for _ in range(draws):
        counts = np.zeros((2, 3, BIN_COUNT), dtype=int)
        for side, (number, shares, by) in enumerate(
            ((members, [0.7, 0.2, 0.1], shift), (outsiders, [0.3, 0.3, 0.4], 0))
        ):
            classes = random.choice(3, number, p=shares)
            scores = means[classes] + by + 3 * random.normal(size=number)
            np.add.at(counts[side], (classes, np.clip((scores + 20) * BIN_COUNT / 40, 0, BIN_COUNT - 1).astype(int)), 1)
        _, interval = auc_by_class(counts[0].ravel().tolist(), counts[1].ravel().tolist())
        covered += interval is None or interval[0] <= truth <= interval[1]
    assert covered >= 0.92 * draws
