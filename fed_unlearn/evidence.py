"""What a gate looks at, and how it is known that a request is forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from fed_unlearn.audits.measured import Measured


class HowKnown(StrEnum):
    """How it is known that a request is forgotten."""

    MEASURED = "measured"
    BY_CONSTRUCTION = "by construction"
    NOT_MEASURABLE = "not measurable"

    @property
    def meaning(self) -> str:
        """What it means, in one sentence for reports, model cards and receipts alike."""
        return _MEANINGS[self]


_MEANINGS = {
    HowKnown.MEASURED: "The model before was outside the bounds on forgetting, and the model after is inside.",
    HowKnown.BY_CONSTRUCTION: (
        "All that is trained of the model was trained anew without the data; its figures alone do not show it."
    ),
    HowKnown.NOT_MEASURABLE: (
        "The figures cannot tell. The model before was inside the bounds on forgetting too, for instance, or the data"
        " could not be read."
    ),
}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much surer a model is of some samples than of unseen ones of their classes, in mean log-odds.

    Attributes
    ----------
    value : float
    error : float
        Standard error of the difference.
    """

    value: float
    error: float

    def is_over(self, bound: float) -> bool:
        """Whether it lies over a bound by more than chance explains, at 95 %."""
        return self.interval[0] > bound

    @property
    def interval(self) -> tuple[float, float]:
        """The normal 95 % interval."""
        return self.value - 1.96 * self.error, self.value + 1.96 * self.error


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the gate looks at: the forget set and validation data, never test data.

    Attributes
    ----------
    forget_accuracy : float or None
        Accuracy of the candidate on D_f; None where no sample of it could be read.
    retain_accuracy, accepted_retain_accuracy, first_retain_accuracy : float or None
        Validation accuracy on the classes of D_r: of the candidate, of the last accepted model, and of the model
        before the first request; None where there is no validation sample.
    finite : bool
        Whether every number of the candidate is finite.
    repair_rounds, attempt : int
        Repair rounds of this attempt so far, and its number from 1 among those by the same method.
    unseen_accuracy : float or None
        Accuracy of the candidate on validation samples of the classes of D_f, in the shares that they have in it.
    membership_auc : float or None
        AUC of the membership attack against validation samples that no method reads; None where either side has no
        sample.
    membership_interval : (float, float) or None
        Its 95 % interval, which alone is judged.
    methods_left : int
        Methods that may still be tried after this one.
    confidence : Difference or None
        How much surer the candidate is of the client's samples than of unseen ones, for a client request.
    staying_confidence : float or None
        How much surer the candidate is of the samples of the clients that stay, of the same classes in the same shares.
    changed : bool
        Whether a step of the method has changed the model by more than rounding, repair aside.
    forget_samples : int or None
        Samples of D_f that were read; None where nobody says.
    figures : mapping of str to Measured
        Figures of audits by name, none of test samples.
    oracle_figures : mapping of str to Measured
        Figures of retrain oracles that were trained before: their mean, and their 95 % prediction interval.
    is_retrained : bool
        Whether the candidate was trained anew without the samples: it is held beside no other model.
    """

    forget_accuracy: float | None
    retain_accuracy: float | None
    accepted_retain_accuracy: float | None
    first_retain_accuracy: float | None
    finite: bool
    repair_rounds: int
    attempt: int
    unseen_accuracy: float | None = None
    membership_auc: float | None = None
    membership_interval: tuple[float, float] | None = None
    methods_left: int = 0
    confidence: Difference | None = None
    staying_confidence: float | None = None
    changed: bool = True
    forget_samples: int | None = None
    figures: Mapping[str, Measured] = field(default_factory=dict)
    oracle_figures: Mapping[str, Measured] = field(default_factory=dict)
    is_retrained: bool = False

    def as_later_read(self, later: Evidence) -> Evidence:
        """What is known of the samples that are still read for later evidence, whichever of them these are.

        Those that are read no more may be the ones that the model had right.
        """
        count, left, accuracy = self.forget_samples, later.forget_samples, self.forget_accuracy
        if count is None or not left or left >= count or accuracy is None:
            return self
        right = max(0.0, accuracy * count - (count - left))
        return replace(
            self,
            forget_accuracy=right / left,
            membership_auc=None,
            membership_interval=None,
            confidence=None,
            figures={},
        )

    def is_as_sure_as(self, earlier: Evidence, share: float | None) -> bool:
        """Whether the model is still surer of a client's samples than it may be, whatever chance explains.

        Parameters
        ----------
        earlier : Evidence
            Evidence of the model before.
        share : float or None
            How much surer than of unseen samples the model may be of a client's, as a share of the same of clients that
            stay, before and now. None where it does not matter.
        """
        staying = [value for value in (earlier.staying_confidence, self.staying_confidence) if value is not None]
        if share is None or self.confidence is None or not staying:
            return False
        return self.confidence.value > share * max(min(staying), 0.0)


NOTHING_KEPT = Evidence(
    forget_accuracy=None,
    retain_accuracy=None,
    accepted_retain_accuracy=None,
    first_retain_accuracy=None,
    finite=True,
    repair_rounds=0,
    attempt=1,
)
"""Evidence of the model before a request: no figure of retained samples is compared."""
