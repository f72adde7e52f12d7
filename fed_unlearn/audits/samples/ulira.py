"""U-LiRA: are unlearned models told from retrained ones by single forgotten samples? (Hayes et al., 2024)"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

from fed_unlearn.audits.base import AUDITS, CentralAudit, Measured, Observation
from fed_unlearn.audits.intervals import QUANTILE
from fed_unlearn.audits.samples.ratios import HeldOutRatios, interval_over, true_positive_rate
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

    Over all samples ``ulira_worst`` is the largest AUC of one sample: a single sample that was left is seen there. Its
    interval is of the models (DeLong et al., 1988), and does not know that the sample was the worst of many.
    Of 24 samples and 16 models of each kind, all alike, it is 0.74 in the median and above 0.82 once in twenty times.
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
        aucs, accuracies, (unlearned, retrained) = ratios.aucs(), ratios.accuracies(), ratios.scores()

        def told(chosen: Tensor) -> float:
            return true_positive_rate(unlearned[:, chosen].ravel(), retrained[:, chosen].ravel(), FALSE_POSITIVE_RATE)

        of_samples: dict[str, Callable[[Tensor], float]] = {
            "ulira_auc": lambda chosen: float(aucs[chosen].mean()),
            "ulira_accuracy": lambda chosen: float(accuracies[chosen].mean()),
            "ulira_tpr": told,
        }
        found = [
            (name + suffix, figure(group), interval_over(group, figure, seen.seed, name + suffix))
            for suffix, group in shadows.groups().items()
            for name, figure in of_samples.items()
        ]
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
