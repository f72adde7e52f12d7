"""The membership attack on all forgotten samples together, by exact losses and by confidence without labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from fed_unlearn.audits.base import AUDITS, CentralAudit, Measured, Observation
from fed_unlearn.audits.membership import exact_membership_auc, membership_auc_interval, sample_losses
from fed_unlearn.seeding import derive_seed


@AUDITS.register("population_attack")
@dataclass(frozen=True)
class PopulationAttack(CentralAudit):
    """AUC of telling D_f from test samples of the same classes.

    Figures: ``membership_auc``, by the loss (Yeom et al., 2018), and ``membership_confidence_auc``, by the largest
    probability: an attacker without labels. Of both 0.5 means that the attack cannot tell them apart; far below 0.5 is
    over-forgetting, and leaks as much. Intervals are of a bootstrap over both sides.

    Attributes
    ----------
    loss_auc, confidence_auc : float or None
    loss_interval, confidence_interval : tuple of float
        Ends of the intervals of both AUCs; empty where there are none.
    """

    loss_auc: float | None = None
    confidence_auc: float | None = None
    loss_interval: tuple[float, ...] = ()
    confidence_interval: tuple[float, ...] = ()

    @classmethod
    def count(cls, seen: Observation) -> Self:
        """Both attacks; nothing where a side has no sample."""
        outside = seen.outsiders
        if not len(seen.forget) or outside is None or not len(outside):
            return cls()
        losses = [sample_losses(side.logits, side.labels) for side in (seen.forget, outside)]
        unsureness = [_unsureness(side.logits) for side in (seen.forget, outside)]

        def interval(sides: list[Tensor], name: str) -> tuple[float, float]:
            return membership_auc_interval(
                sides[0], sides[1], np.random.default_rng(derive_seed(seen.seed, "bootstrap", name))
            )

        return cls(
            exact_membership_auc(losses[0], losses[1]),
            exact_membership_auc(unsureness[0], unsureness[1]),
            interval(losses, "membership_auc"),
            interval(unsureness, "membership_confidence_auc"),
        )

    @property
    def value(self) -> float | None:
        """``membership_auc``."""
        return self.loss_auc

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval of ``membership_auc``."""
        return self.figures["membership_auc"].interval

    @property
    def figures(self) -> Mapping[str, Measured]:
        """Both by name."""
        return {
            "membership_auc": Measured(self.loss_auc, _pair(self.loss_interval)),
            "membership_confidence_auc": Measured(self.confidence_auc, _pair(self.confidence_interval)),
        }


def _unsureness(logits: Tensor) -> Tensor:
    """The loss of the class with the largest probability: small where the model is sure."""
    return sample_losses(logits, logits.argmax(1)) if len(logits) else torch.empty(0, dtype=torch.float64)


def _pair(values: tuple[float, ...]) -> tuple[float, float] | None:
    return (values[0], values[1]) if values else None
