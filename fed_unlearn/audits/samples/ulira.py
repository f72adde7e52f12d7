"""U-LiRA: are unlearned models told from retrained ones by single forgotten samples? (Hayes et al., 2024)"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from fed_unlearn.audits.base import AUDITS, CentralAudit, Measured, Observation
from fed_unlearn.audits.intervals import QUANTILE
from fed_unlearn.audits.samples.ratios import HeldOutRatios, interval_over_models, true_positive_rate
from fed_unlearn.requests import ScopeKind

FALSE_POSITIVE_RATE = 0.01


@AUDITS.register("ulira")
@dataclass(frozen=True)
class UnlearnedShadows(CentralAudit):
    """Shadow models that forgot as the audited model did, against shadow models that were retrained.

    It has no figures without shadow models of both kinds. For each group of samples:

    - ``ulira_auc``: mean over samples of the AUC of the likelihood ratio, each of models that were not fitted. 0.5:
      unlearned and retrained models cannot be told apart.
    - ``ulira_accuracy``: the same of the balanced accuracy of the ratio's sign.
    - ``ulira_tpr``: the share of unlearned models that are told at most 1 % of false alarms, samples pooled.

    The intervals come from models and samples that are both drawn anew: few models judge all samples, so that retrained
    models may be told from each other by chance, as 8 of each kind were at an AUC of 0.27 of four samples.

    Over all samples ``ulira_worst`` is the largest AUC of one sample: a single sample that was left is seen there. Its
    interval is of the models (DeLong et al., 1988), and does not know that the sample was the worst of many.
    With 24 samples and 16 models of each kind, all alike, it is 0.74 in the median and above 0.82 once in twenty times.
    """

    scopes: ClassVar[tuple[ScopeKind, ...]] = ("class", "sample")
    cost: ClassVar[str] = "nothing, once shadow models were trained"

    found: tuple[tuple[str, float, tuple[float, float]], ...] = ()

    @classmethod
    def count(cls, seen: Observation) -> Self:
        """Compare the shadow models."""
        shadows = None if seen.central is None else seen.central.shadows
        if shadows is None or shadows.unlearned is None or not shadows.retrained.shape[1]:
            return cls()
        ratios = HeldOutRatios.of(shadows.unlearned, shadows.retrained)
        found = [
            (name + suffix, *_with_interval(figure, ratios, group, seen.seed, name + suffix))
            for suffix, group in shadows.groups().items()
            for name, figure in _figures(ratios).items()
        ]
        aucs = ratios.aucs()
        worst, place = (float(each) for each in aucs.max(0))
        half = QUANTILE * float(ratios.errors()[int(place)])
        return cls((*found, ("ulira_worst", worst, (max(0.0, worst - half), min(1.0, worst + half)))))

    @property
    def figures(self) -> Mapping[str, Measured]:
        """By name."""
        return {name: Measured(value, interval) for name, value, interval in self.found}

    @property
    def value(self) -> float | None:
        """The largest AUC of one sample."""
        return self.found[-1][1] if self.found else None


Figure = Callable[[Tensor, Tensor, Tensor], float]
"""A figure of some unlearned models, some retrained ones and some samples, by their positions."""


def _figures(ratios: HeldOutRatios) -> dict[str, Figure]:
    wins, hits, (unlearned, retrained) = ratios.wins(), ratios.hits(), ratios.scores()

    def mean_of(values: Tensor) -> Figure:
        return lambda ours, theirs, samples: float(values[ours][:, theirs][:, :, samples].mean())

    def told(ours: Tensor, theirs: Tensor, samples: Tensor) -> float:
        positives, negatives = unlearned[ours][:, samples].ravel(), retrained[theirs][:, samples].ravel()
        return true_positive_rate(positives, negatives, FALSE_POSITIVE_RATE)

    return {"ulira_auc": mean_of(wins), "ulira_accuracy": mean_of(hits), "ulira_tpr": told}


def _with_interval(
    figure: Figure, ratios: HeldOutRatios, group: Tensor, seed: int, name: str
) -> tuple[float, tuple[float, float]]:
    ours, theirs = len(ratios.unlearned), ratios.unlearned.shape[1]
    interval = interval_over_models(
        (ours, theirs, len(group)), lambda mine, others, samples: figure(mine, others, group[samples]), seed, name
    )
    return figure(torch.arange(ours), torch.arange(theirs), group), interval
