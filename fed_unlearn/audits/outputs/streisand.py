"""Streisand effect: do outputs alone, without labels, point at the samples that were forgotten?

The name is that of Golatkar et al., "Eternal Sunshine of the Spotless Net" (CVPR 2020).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fed_unlearn.audits.base import AUDITS, CentralAudit, Measured, Observation
from fed_unlearn.audits.membership import membership_auc, membership_interval
from fed_unlearn.audits.readings import PartName
from fed_unlearn.errors import EmptySetError
from fed_unlearn.requests import ScopeKind
from fed_unlearn.seeding import derive_seed, seeded_generator

MOST_FORGOTTEN, MOST_OTHERS = 1000, 4000
"""Maximum number of samples of each side that are read."""

MOST_PROBABILITIES = 20
"""Maximum number of probabilities of a sample that are looked at, the largest ones."""

_FOLDS = 5
_SMALLEST = -30.0  # log-probability; masks differ in how far below they lie, which says nothing of samples
_MOST_ITERATIONS = 500


@AUDITS.register("streisand")
@dataclass(frozen=True)
class Streisand(CentralAudit):
    """AUC of a logistic regression on sorted log-probabilities that picks forgotten samples out, cross-validated.

    Outputs are taken as the model serves them. They are sorted, so that the attacker knows neither labels nor which
    output is which.

    For a class request, ``streisand_auc`` picks D_ft out of D_rt; ``streisand_staying_auc`` does so from the
    probabilities among the classes that stay, so that a suppressed output of the class itself takes no part; and
    ``streisand_training_auc`` picks D_f out of D_ft, samples that were trained on once out of those that never were.
    Samples of a class that a model never saw are conspicuous too: compare the first two with an oracle's.

    For a sample request, ``streisand_auc`` picks D_f out of D_r, the training samples that stay, and
    ``streisand_unseen_auc`` out of D_rt. An oracle has about 0.5 in the latter, and in the former what membership
    gives away.

    Attributes
    ----------
    served, staying, training, unseen : tuple of float
        The AUC and the ends of its interval; empty where it was not measured.
    """

    scopes: ClassVar[tuple[ScopeKind, ...]] = ("class", "sample")
    cost: ClassVar[str] = "five logistic regressions for each figure"

    served: tuple[float, ...] = ()
    staying: tuple[float, ...] = ()
    training: tuple[float, ...] = ()
    unseen: tuple[float, ...] = ()

    @classmethod
    def count(cls, seen: Observation) -> Self:
        """Train and judge the attacker on every pair of sides but those of which a side has fewer than two samples.

        Raises
        ------
        EmptySetError
            If the samples are not in one place.
        """
        if seen.central is None:
            raise EmptySetError(f"{cls.name}: the samples of a request are not in one place; expected all of them")
        readings, staying = seen.central.readings, list(seen.central.data.staying)

        def auc(forgotten: PartName, others: PartName, outputs: Sequence[int] | None = None) -> tuple[float, ...]:
            sides = []
            for part, most in ((forgotten, MOST_FORGOTTEN), (others, MOST_OTHERS)):
                logits = readings.answers(part).served
                order = torch.randperm(len(logits), generator=seeded_generator(seen.seed, cls.name, part))[:most]
                sides.append(sorted_log_probabilities(logits[order] if outputs is None else logits[order][:, outputs]))
            return picked_out(sides[0], sides[1], seed=seen.seed)

        if seen.scope == "sample":
            return cls(served=auc("forget", "retain"), unseen=auc("forget", "test_retain"))
        return cls(
            served=auc("test_forget", "test_retain"),
            staying=auc("test_forget", "test_retain", staying) if len(staying) > 1 else (),
            training=auc("forget", "test_forget"),
        )

    @property
    def figures(self) -> Mapping[str, Measured]:
        """Those of the request's scope; without those that were not measured."""
        found = {
            "streisand_auc": self.served,
            "streisand_staying_auc": self.staying,
            "streisand_training_auc": self.training,
            "streisand_unseen_auc": self.unseen,
        }
        return {name: Measured(row[0], (row[1], row[2])) for name, row in found.items() if row}

    @property
    def value(self) -> float | None:
        """``streisand_auc``."""
        return self.served[0] if self.served else None


def sorted_log_probabilities(logits: Tensor) -> Tensor:
    """The largest log-probabilities of each sample in falling order, none below -30.

    Parameters
    ----------
    logits : Tensor of shape (n, classes)

    Returns
    -------
    Tensor of shape (n, min(classes, 20)), float64
    """
    logs = functional.log_softmax(logits.double(), dim=1).nan_to_num(nan=_SMALLEST, neginf=_SMALLEST)
    return logs.clamp_min(_SMALLEST).sort(dim=1, descending=True).values[:, :MOST_PROBABILITIES]


def picked_out(forgotten: Tensor, others: Tensor, *, seed: int) -> tuple[float, ...]:
    """AUC of scikit-learn's logistic regression on standardised features, each sample scored by a fit without it.

    Parameters
    ----------
    forgotten, others : Tensor of shape (n, features) and (m, features), float64
    seed : int
        Seed of the five stratified folds. There are fewer folds where a side has fewer samples.

    Returns
    -------
    tuple of three float, or of none
        The AUC and its 95 % interval by DeLong and Newcombe. With few samples and nothing to find it lies below 0.5: a
        fold that leaves a sample out leans away from it.
    """
    folds = min(_FOLDS, len(forgotten), len(others))
    if folds < 2:
        return ()
    truth = np.r_[np.ones(len(forgotten), dtype=np.int64), np.zeros(len(others), dtype=np.int64)]
    scores = _scores_without(torch.cat([forgotten, others]).numpy(), truth, folds, seed)
    # One bin for each score: the histograms lose nothing.
    ranks = np.unique(scores, return_inverse=True)[1].reshape(-1)
    counts = [np.bincount(ranks[truth == side], minlength=int(ranks.max()) + 1).tolist() for side in (1, 0)]
    return membership_auc(*counts), *membership_interval(*counts)


def _scores_without(
    features: NDArray[np.float64], truth: NDArray[np.int64], folds: int, seed: int
) -> NDArray[np.float64]:
    """Log-odds of each sample by the regression that was fitted without its fold."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = LogisticRegression(class_weight="balanced", max_iter=_MOST_ITERATIONS)
    split = StratifiedKFold(folds, shuffle=True, random_state=derive_seed(seed, "streisand", "folds") % 2**32)
    scores: NDArray[np.float64] = cross_val_predict(
        make_pipeline(StandardScaler(), classifier), features, truth, cv=split, method="decision_function"
    )
    return scores
