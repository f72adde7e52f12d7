"""Linear probe (Alain and Bengio, 2017): do frozen features tell forgotten classes from the others?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor

from fed_unlearn.audits.base import AUDITS, CentralAudit, Measured, Observation
from fed_unlearn.audits.features.frozen import central_of, drawn, frozen
from fed_unlearn.audits.features.shares import balanced_accuracy
from fed_unlearn.requests import ScopeKind

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

MOST_FORGOTTEN = 2000
MOST_RETAINED = 4000
"""Maximum number of samples of D_f and of D_r that the probe is trained on."""

_MOST_ITERATIONS = 1000


def fitted_probe(features: Tensor, is_forgotten: Tensor) -> Pipeline:
    """Logistic regression on standardised features, both sides weighted alike, as scikit-learn fits it.

    Parameters
    ----------
    features : Tensor of shape (n, features)
    is_forgotten : Tensor of shape (n,), bool
        Whether each sample is a forgotten one. There are samples of both kinds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = LogisticRegression(class_weight="balanced", max_iter=_MOST_ITERATIONS)
    return make_pipeline(StandardScaler(), classifier).fit(features.double().numpy(), is_forgotten.numpy())


def called_forgotten(classifier: Pipeline, features: Tensor) -> Tensor:
    """Which samples the probe takes for forgotten ones, of shape (n,), bool."""
    return torch.from_numpy(classifier.predict(features.double().numpy()))


@AUDITS.register("probe_accuracy")
@dataclass(frozen=True)
class LinearProbe(CentralAudit):
    """Balanced accuracy of a linear probe on what the output layer reads.

    It is trained on D_f and D_r, and judged on D_ft and D_rt. Nothing that is done to the output layer changes it. The
    features of a retrain oracle separate a class that it never saw, too: compare the figure with the oracle's.

    Attributes
    ----------
    found, forgotten : int
        Samples of D_ft that the probe finds, and all of them.
    apart, retained : int
        Samples of D_rt that it leaves alone, and all of them.
    """

    scopes: ClassVar[tuple[ScopeKind, ...]] = ("class",)
    cost: ClassVar[str] = "a logistic regression on at most 6,000 samples"

    found: int = 0
    forgotten: int = 0
    apart: int = 0
    retained: int = 0

    @classmethod
    def count(cls, seen: Observation) -> Self:
        """Train the probe and judge it.

        Raises
        ------
        EmptySetError
            If one of the four parts has no sample.
        InvalidModelError
            If a feature is not a finite number.
        """
        readings = central_of(cls.name, seen).readings
        forget, retain = (frozen(cls.name, readings, part) for part in ("forget", "retain"))
        forget = forget.at(drawn(len(forget), MOST_FORGOTTEN, seen.seed, cls.name, "forget"))
        retain = retain.at(drawn(len(retain), MOST_RETAINED, seen.seed, cls.name, "retain"))
        classifier = fitted_probe(
            torch.cat([forget.features, retain.features]), torch.arange(len(forget) + len(retain)) < len(forget)
        )
        test_forget, test_retain = (frozen(cls.name, readings, part) for part in ("test_forget", "test_retain"))
        return cls(
            found=int(called_forgotten(classifier, test_forget.features).sum()),
            forgotten=len(test_forget),
            apart=int((~called_forgotten(classifier, test_retain.features)).sum()),
            retained=len(test_retain),
        )

    @property
    def measured(self) -> Measured:
        """Balanced accuracy in [0, 1], 0.5 at chance, with its binomial interval of both sides."""
        return balanced_accuracy([self.found], self.forgotten, [self.apart], self.retained)

    @property
    def value(self) -> float | None:
        """The balanced accuracy; None where nothing was counted."""
        return self.measured.value

    @property
    def interval(self) -> tuple[float, float] | None:
        """Its 95 % interval."""
        return self.measured.interval
