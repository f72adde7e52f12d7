"""What a gate looks at, and how it is known that a request is forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class HowKnown(StrEnum):
    """How it is known that a request is forgotten."""

    MEASURED = "measured"
    """The model before was outside the gate's bounds on forgetting, and the model after is inside."""
    BY_CONSTRUCTION = "by construction"
    """The model after was trained without the samples; the model before was inside the bounds too."""
    NOT_MEASURABLE = "not measurable"
    """The model before was inside the bounds too, or the samples cannot be read: the audits cannot tell."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much surer a model is of some samples than of unseen ones of their classes, in mean log-odds.

    Attributes
    ----------
    value : float
    error : float
        Its standard error.
    """

    value: float
    error: float

    def is_over(self, bound: float) -> bool:
        """Whether it lies over a bound by more than chance explains, at 95 %."""
        return self.value - 1.96 * self.error > bound


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the gate looks at: the forget set and validation data, never test data.

    Attributes
    ----------
    forget_accuracy : float or None
        Of the candidate on D_f; None where no sample of it could be read.
    retain_accuracy, accepted_retain_accuracy, first_retain_accuracy : float or None
        Validation accuracy on the classes of D_r: of the candidate, of the last accepted model, and of the model
        before the first request; None where there is no validation sample.
    finite : bool
        Whether every number of the candidate is finite.
    repair_rounds, attempt : int
        Repair rounds of this attempt so far, and its number from 1 among those by the same method.
    unseen_accuracy : float or None
        Of the candidate on validation samples of the classes of D_f, in the shares that they have in it.
    membership_interval : (float, float) or None
        Of the membership attack's AUC, at 95 %, against validation samples that no method reads; None where either side
        has no sample.
    methods_left : int
        Methods that may still be tried after this one.
    confidence : Difference or None
        For a client request, how much surer the candidate is of the client's samples than of unseen ones.
    staying_confidence : float or None
        The same of the samples of the clients that stay, of the same classes in the same shares.
    changed : bool
        Whether a step of the method has changed an array of the model, repair aside.
    """

    forget_accuracy: float | None
    retain_accuracy: float | None
    accepted_retain_accuracy: float | None
    first_retain_accuracy: float | None
    finite: bool
    repair_rounds: int
    attempt: int
    unseen_accuracy: float | None = None
    membership_interval: tuple[float, float] | None = None
    methods_left: int = 0
    confidence: Difference | None = None
    staying_confidence: float | None = None
    changed: bool = True
