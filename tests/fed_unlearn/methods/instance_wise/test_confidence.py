from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional

from fed_unlearn.errors import InvalidDataError
from fed_unlearn.logits import confidence
from fed_unlearn.methods.instance_wise.confidence import unseen_confidence


def test_confidence_is_the_log_odds_of_the_cross_entropy() -> None:
    logits = torch.randn(20, 5, generator=torch.Generator().manual_seed(0)).double()
    labels = torch.arange(20) % 5
    probability = torch.exp(-functional.cross_entropy(logits, labels, reduction="none"))
    torch.testing.assert_close(confidence(logits, labels), torch.log(probability / (1 - probability)))


def test_targets_by_hand() -> None:
    # Class 0: unseen 0, 1, 2, 3. The member 5 is above all four of them, the member 1.5 above two: places 1 and 1/2.
    # Class 1: unseen 10, 20. The member 15 is above one: place 1/2.
    # Order: 1.5 and 15 share a place and 1.5 is the surer doubt, then 5: spread to 1/6, 1/2, 5/6.
    targets = unseen_confidence(
        torch.tensor([5.0, 1.5, 15.0]),
        torch.tensor([0, 0, 1]),
        torch.tensor([3.0, 10.0, 0.0, 20.0, 2.0, 1.0]),
        torch.tensor([0, 1, 0, 1, 0, 0]),
    )
    torch.testing.assert_close(
        targets, torch.tensor([np.quantile([0, 1, 2, 3], 5 / 6), np.quantile([0, 1, 2, 3], 1 / 6), 15.0]).float()
    )


def test_members_at_their_targets_cannot_be_told_from_other_unseen_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    labels, unseen_labels = torch.arange(300) % 3, torch.arange(900) % 3
    shift = torch.tensor([0.0, 2.0, -1.0])
    unseen = torch.randn(900, generator=generator) * 2 + shift[unseen_labels]
    members = torch.randn(300, generator=generator) + 4 + shift[labels]
    others = torch.randn(900, generator=generator) * 2 + shift[unseen_labels]

    def auc(values: torch.Tensor) -> float:
        return float(roc_auc_score([1] * 300 + [0] * 900, torch.cat([values, others]).numpy()))

    assert auc(members) > 0.9
    targets = unseen_confidence(members, labels, unseen, unseen_labels)
    assert abs(auc(targets) - 0.5) < 0.03
    for label in range(3):
        own = labels == label
        assert torch.equal(targets[own].argsort(stable=True), members[own].argsort(stable=True))


def test_a_class_without_unseen_samples_borrows_those_of_all() -> None:
    labels, unseen_labels = torch.tensor([0, 2]), torch.tensor([0, 1, 1])
    targets = unseen_confidence(torch.tensor([5.0, 6.0]), labels, torch.tensor([1.0, 2.0, 4.0]), unseen_labels)
    # The first has but one reference; the second, more certain one, is three quarters of the way through all three.
    torch.testing.assert_close(targets, torch.tensor([1.0, float(np.quantile([1, 2, 4], 0.75))]))


def test_no_unseen_sample_at_all_is_refused() -> None:
    with pytest.raises(InvalidDataError, match="no unseen sample was given"):
        unseen_confidence(torch.zeros(1), torch.tensor([0]), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
