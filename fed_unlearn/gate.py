"""The decision after a request: accept, repair more, try again with a stronger setting, or roll back."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.requests import ScopeKind


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """What a request of one scope must meet; fractions of 1, None for what is not looked at.

    Attributes
    ----------
    max_forget_accuracy : float or None
        Upper bound on the accuracy on D_f.
    max_retain_drop : float or None
        How far validation accuracy on the classes of D_r may fall against the last accepted model.
    max_total_retain_drop : float or None
        The same against the model before the first request.
    """

    max_forget_accuracy: float | None
    max_retain_drop: float | None
    max_total_retain_drop: float | None

    def __post_init__(self) -> None:
        for name in ("max_forget_accuracy", "max_retain_drop", "max_total_retain_drop"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise InvalidParameterError(f"gate: {name} = {value!r}; expected a fraction in [0, 1]")


class Verdict(Enum):
    """What is done with a candidate model."""

    ACCEPT = "accept"
    REPAIR = "repair more"
    RETRY = "try again with a stronger setting"
    ROLL_BACK = "roll back"


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
        Repair rounds of this attempt so far, and its number from 1.
    """

    forget_accuracy: float | None
    retain_accuracy: float | None
    accepted_retain_accuracy: float | None
    first_retain_accuracy: float | None
    finite: bool
    repair_rounds: int
    attempt: int


@dataclass(frozen=True)
class Decision:
    """A verdict, and in words what the candidate failed; no reasons where it failed nothing."""

    verdict: Verdict
    reasons: tuple[str, ...] = ()

    @property
    def reason(self) -> str | None:
        """All reasons in one line."""
        return "; ".join(self.reasons) or None


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Thresholds by scope, and how often a candidate may be mended before it is rolled back.

    Attributes
    ----------
    class_thresholds, sample_thresholds, client_thresholds : Thresholds
    max_repair_rounds : int
        Repair rounds of one attempt, at least 0.
    max_attempts : int
        Attempts of one request, each with a stronger setting of its method, at least 1.
    max_training_drop : float
        How far validation accuracy may fall in a training experience before its result is not served.
    """

    class_thresholds: Thresholds = field(
        default_factory=lambda: Thresholds(max_forget_accuracy=0.05, max_retain_drop=0.02, max_total_retain_drop=0.05)
    )
    sample_thresholds: Thresholds = field(
        default_factory=lambda: Thresholds(max_forget_accuracy=0.0, max_retain_drop=0.05, max_total_retain_drop=0.10)
    )
    client_thresholds: Thresholds = field(
        default_factory=lambda: Thresholds(max_forget_accuracy=None, max_retain_drop=0.05, max_total_retain_drop=0.10)
    )
    max_repair_rounds: int = 3
    max_attempts: int = 2
    max_training_drop: float = 0.2

    def __post_init__(self) -> None:
        if self.max_repair_rounds < 0 or self.max_attempts < 1:
            raise InvalidParameterError(
                f"gate: max_repair_rounds = {self.max_repair_rounds}, max_attempts = {self.max_attempts};"
                " expected at least 0 and at least 1"
            )
        if not 0 <= self.max_training_drop <= 1:
            raise InvalidParameterError(f"gate: max_training_drop = {self.max_training_drop!r}; expected [0, 1]")

    def thresholds(self, scope: ScopeKind) -> Thresholds:
        """The thresholds of a scope."""
        return {"class": self.class_thresholds, "sample": self.sample_thresholds, "client": self.client_thresholds}[
            scope
        ]

    def decide(self, scope: ScopeKind, evidence: Evidence) -> Decision:
        """Judge a candidate."""
        reasons = self._failures(self.thresholds(scope), evidence)
        if not reasons:
            return Decision(Verdict.ACCEPT)
        if evidence.finite and evidence.repair_rounds < self.max_repair_rounds:
            return Decision(Verdict.REPAIR, reasons)
        if evidence.attempt < self.max_attempts:
            return Decision(Verdict.RETRY, reasons)
        return Decision(Verdict.ROLL_BACK, reasons)

    def decide_training(self, *, finite: bool, retain_accuracy: float | None, accepted: float | None) -> Decision:
        """Judge the result of a training experience: serve it, or go on serving the last accepted model."""
        if not finite:
            return Decision(Verdict.ROLL_BACK, ("a parameter is not finite",))
        reasons = _drop_failures("the last accepted model", retain_accuracy, accepted, self.max_training_drop)
        return Decision(Verdict.ROLL_BACK if reasons else Verdict.ACCEPT, reasons)

    @staticmethod
    def _failures(thresholds: Thresholds, evidence: Evidence) -> tuple[str, ...]:
        if not evidence.finite:
            return ("a parameter is not finite",)
        reasons: list[str] = []
        bound = thresholds.max_forget_accuracy
        if bound is not None:
            if evidence.forget_accuracy is None:
                reasons.append("no sample of the forget set could be read")
            elif evidence.forget_accuracy > bound:
                reasons.append(f"forget accuracy {evidence.forget_accuracy:.3f} is over {bound:.3f}")
        for against, reference, allowed in (
            ("the last accepted model", evidence.accepted_retain_accuracy, thresholds.max_retain_drop),
            ("the model before the first request", evidence.first_retain_accuracy, thresholds.max_total_retain_drop),
        ):
            reasons.extend(_drop_failures(against, evidence.retain_accuracy, reference, allowed))
        return tuple(reasons)


def _drop_failures(
    against: str, accuracy: float | None, reference: float | None, allowed: float | None
) -> tuple[str, ...]:
    if accuracy is None or reference is None or allowed is None or reference - accuracy <= allowed:
        return ()
    return (f"retained validation accuracy {accuracy:.3f} is over {allowed:.3f} under {reference:.3f} of {against}",)
