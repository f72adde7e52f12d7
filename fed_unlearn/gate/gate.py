"""The decision after a request: accept, repair more, try again with a stronger setting, or roll back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from fed_unlearn.audits.validation import ServerValidation
from fed_unlearn.evidence import Evidence, HowKnown
from fed_unlearn.gate.bounds import ABOVE_REFERENCE, CLASS_FIGURES, SAMPLE_FIGURES
from fed_unlearn.gate.checks import is_excused
from fed_unlearn.gate.decision import Decision, Verdict
from fed_unlearn.gate.failures import confidence_failures, drop_failures, figure_failures, not_measured
from fed_unlearn.gate.figure_names import NO_ORACLE_YET, audits_behind, figure_sources, problem_with
from fed_unlearn.gate.thresholds import Thresholds
from fed_unlearn.requests import SCOPES, ScopeKind
from fed_unlearn.settings import Fraction, FromOne, FromZero, Settings


@dataclass(frozen=True, kw_only=True)
class Gate(Settings, prefix="gate: "):
    """Thresholds by scope, and how often a candidate may be mended before it is rolled back.

    Attributes
    ----------
    class_thresholds, sample_thresholds, client_thresholds : Thresholds
    indistinguishable_thresholds : Thresholds
        Thresholds of sample requests whose goal is ``"indistinguishable"``.
    max_repair_rounds : int
        Repair rounds of one attempt, at least 0.
    max_attempts : int
        Attempts of one request, each with a stronger setting of its method, at least 1.
    max_training_drop : float
        How far validation accuracy may fall in a training experience before its result is not served.
    validation : ServerValidation or None
        Samples of a federation's server, by which it judges retained accuracy. None: by clients' validation samples.
    """

    class_thresholds: Thresholds = field(
        default_factory=lambda: Thresholds(
            max_forget_accuracy=0.05, max_retain_drop=0.02, max_total_retain_drop=0.05, figures=CLASS_FIGURES
        )
    )
    sample_thresholds: Thresholds = field(
        default_factory=lambda: Thresholds(max_forget_accuracy=0.0, max_retain_drop=0.05, max_total_retain_drop=0.10)
    )
    client_thresholds: Thresholds = field(
        default_factory=lambda: Thresholds(
            max_forget_accuracy=None,
            max_retain_drop=0.05,
            max_total_retain_drop=0.10,
            max_forget_excess=0.1,
            max_confidence_share=0.5,
        )
    )
    indistinguishable_thresholds: Thresholds = field(
        default_factory=lambda: Thresholds(
            max_forget_accuracy=None,
            max_retain_drop=0.05,
            max_total_retain_drop=0.10,
            membership_contains_half=True,
            figures=SAMPLE_FIGURES,
        )
    )
    max_repair_rounds: FromZero = 3
    max_attempts: FromOne = 2
    max_training_drop: Fraction = 0.2
    validation: ServerValidation | None = None

    def thresholds(self, scope: ScopeKind, goal: str | None = None) -> Thresholds:
        """The thresholds of a scope, and of a sample request's goal."""
        if scope == "sample":
            return self.indistinguishable_thresholds if goal == "indistinguishable" else self.sample_thresholds
        return self.class_thresholds if scope == "class" else self.client_thresholds

    def all_thresholds(self) -> dict[str, tuple[ScopeKind, Thresholds]]:
        """Every group of thresholds by the name of its field, with the scope of its requests."""
        of_scopes: dict[str, tuple[ScopeKind, Thresholds]] = {
            f"{scope}_thresholds": (scope, self.thresholds(scope)) for scope in SCOPES
        }
        return {**of_scopes, "indistinguishable_thresholds": ("sample", self.indistinguishable_thresholds)}

    def audits(self, scope: ScopeKind) -> tuple[str, ...]:
        """Names of the audits behind the figures of a scope's requests that have bounds: holders must count them."""
        groups = (thresholds for of, thresholds in self.all_thresholds().values() if of == scope)
        return tuple(sorted({name for thresholds in groups for name in audits_behind(thresholds.figures, scope)}))

    def validate(self) -> list[str]:
        """Everything that is wrong with the gate, one line each; figures that there are not included."""
        problems, sources = super().validate(), figure_sources()
        return problems + [
            f"gate: {group}.figures[{name!r}]: {name} {problem}"
            for group, (scope, thresholds) in self.all_thresholds().items()
            for name, bound in thresholds.figures.items()
            if (problem := problem_with(name, bound, scope, sources)) is not None
        ]

    def problems_in_federation(self) -> list[str]:
        """Everything that is wrong with the gate of a federation, one line each: bounds beside oracles included."""
        return self.validate() + [
            f"gate: {group}.figures[{name!r}]: beside = 'oracle' was given; {NO_ORACLE_YET}"
            for group, (_, thresholds) in self.all_thresholds().items()
            for name, bound in thresholds.figures.items()
            if bound.beside == "oracle"
        ]

    def decide(
        self,
        scope: ScopeKind,
        evidence: Evidence,
        goal: str | None = None,
        *,
        before: Evidence | None = None,
        is_retrained: bool = False,
        require_measured: bool = False,
    ) -> Decision:
        """Judge a candidate that serves one request.

        Parameters
        ----------
        scope : str
        evidence : Evidence
            Evidence of the candidate.
        goal : str, optional
            Goal of a sample request.
        before : Evidence, optional
            Evidence of the model before the request.
        is_retrained : bool
            Whether the candidate was trained anew without the samples. What it says of a client's samples, or of
            samples that are to look unseen, does not matter then; that of a class or of misclassified samples does.
        require_measured : bool
            Whether a candidate is refused whose forgetting is not ``measured``.
        """
        reasons = self.kept_too_little(scope, evidence, goal)
        if evidence.finite and not is_excused(scope, goal, is_retrained=is_retrained):
            judged = replace(evidence, is_retrained=is_retrained)
            too_little = self.forgot_too_little(scope, judged, goal) or self._still_knows(scope, before, evidence)
            reasons = (*too_little, *reasons)
        return self.proven(
            scope,
            evidence,
            reasons,
            goal,
            before=before,
            is_retrained=is_retrained,
            require_measured=require_measured,
        )

    def proven(
        self,
        scope: ScopeKind,
        evidence: Evidence,
        reasons: tuple[str, ...],
        goal: str | None = None,
        *,
        before: Evidence | None,
        is_retrained: bool = False,
        require_measured: bool = False,
    ) -> Decision:
        """What is done with a candidate that failed for these reasons, and how its forgetting is known if for none.

        A candidate that no step of the method has changed is refused, and no repair mends that. The exception are
        samples that were misclassified before, or that stood as unseen ones do by a reference: samples of a request,
        or all of a client.
        """
        if not evidence.changed and (why := self._undone(scope, evidence, goal, before)) is not None:
            mended = replace(evidence, repair_rounds=self.max_repair_rounds)
            return self.verdict(mended, (*reasons, why))
        if reasons:
            return self.verdict(evidence, reasons)
        known = self.how_known(scope, before, evidence, goal, is_retrained=is_retrained)
        if require_measured and known is not HowKnown.MEASURED:
            return Decision(Verdict.ROLL_BACK, (f"its forgetting is {known}, and the plan demands measured",))
        return Decision(Verdict.ACCEPT, known=known)

    def _undone(self, scope: ScopeKind, evidence: Evidence, goal: str | None, before: Evidence | None) -> str | None:
        """In words, why there was something to do for a candidate that was not changed; None where there was not."""
        unchanged = "no step of the method has changed the model"
        if scope == "class" or self.shows(scope, before, goal):
            return unchanged
        known = evidence.figures.get(ABOVE_REFERENCE)
        if known is not None and known.value is not None:
            most = SAMPLE_FIGURES[ABOVE_REFERENCE].maximum
            return None if scope == "sample" or (most is not None and known.value <= most) else unchanged
        if scope == "client":
            return unchanged
        if goal == "indistinguishable":
            return f"{unchanged}, and no reference says that the samples stood as unseen ones do"
        return None

    def shows(self, scope: ScopeKind, evidence: Evidence | None, goal: str | None = None) -> bool:
        """Whether a model shows that it knows the samples of a request: they were read, and are out of bounds."""
        if evidence is None or evidence.forget_accuracy is None:
            return False
        missing = not_measured(evidence, self.thresholds(scope, goal))
        return any(reason not in missing for reason in self.forgot_too_little(scope, evidence, goal))

    def how_known(
        self,
        scope: ScopeKind,
        before: Evidence | None,
        after: Evidence,
        goal: str | None = None,
        *,
        is_retrained: bool = False,
    ) -> HowKnown:
        """How it is known that a request is forgotten, from the figures before it and after it.

        Parameters
        ----------
        scope : str
        before : Evidence or None
            Evidence of the model before the request; None where nothing could be read.
        after : Evidence
            Evidence of the model after the request.
        goal : str, optional
            Goal of a sample request.
        is_retrained : bool
            Whether the model after was trained anew without the samples.
        """
        figures = ("forget_accuracy", "membership_interval", "confidence")
        is_read = before is not None and all(
            getattr(before, name) is None or getattr(after, name) is not None for name in figures
        )
        share = self.thresholds(scope, goal).max_confidence_share
        if (
            before is not None
            and is_read
            and self.shows(scope, before.as_later_read(after), goal)
            and not self.shows(scope, after, goal)
            and not after.is_as_sure_as(before, share)
        ):
            return HowKnown.MEASURED
        return HowKnown.BY_CONSTRUCTION if is_retrained else HowKnown.NOT_MEASURABLE

    def _still_knows(self, scope: ScopeKind, before: Evidence | None, after: Evidence) -> tuple[str, ...]:
        """In words, that a client whose samples were known is within the bounds by no more than a hair."""
        share, own = self.thresholds(scope).max_confidence_share, after.confidence
        if scope != "client" or share is None or own is None or before is None or before.confidence is None:
            return ()
        if not confidence_failures(before, share) or not after.is_as_sure_as(before, share):
            return ()
        return (
            f"log-odds of the client's samples lie {own.value:.2f} over those of unseen ones, and lay"
            f" {before.confidence.value:.2f} over them before; expected at most {share:g} of what they are of clients"
            " that stay, before and now",
        )

    def verdict(self, evidence: Evidence, reasons: tuple[str, ...]) -> Decision:
        """What is done with a candidate that failed for these reasons: repaired, retried, escalated or rolled back."""
        if not reasons:
            return Decision(Verdict.ACCEPT)
        if evidence.finite and evidence.repair_rounds < self.max_repair_rounds:
            return Decision(Verdict.REPAIR, reasons)
        if evidence.attempt < self.max_attempts:
            return Decision(Verdict.RETRY, reasons)
        return Decision(Verdict.ESCALATE if evidence.methods_left else Verdict.ROLL_BACK, reasons)

    def forgot_too_little(self, scope: ScopeKind, evidence: Evidence, goal: str | None = None) -> tuple[str, ...]:
        """In words, what of one request the candidate has not forgotten; empty where it has forgotten enough."""
        thresholds = self.thresholds(scope, goal)
        reasons: list[str] = []
        accuracy, unseen, interval = evidence.forget_accuracy, evidence.unseen_accuracy, evidence.membership_interval
        bound, excess = thresholds.max_forget_accuracy, thresholds.max_forget_excess
        if accuracy is None:
            needed = any(figure.needed for figure in thresholds.figures.values())
            looked_at = needed or thresholds.membership_contains_half or bound is not None or excess is not None
            # A client that has left has taken its samples along: nobody can read them.
            return ("no sample of the forget set could be read",) if looked_at and scope != "client" else ()
        if bound is not None and accuracy > bound:
            reasons.append(f"forget accuracy {accuracy:.3f} is over {bound:.3f}")
        if excess is not None and unseen is not None and accuracy - unseen > excess:
            reasons.append(f"forget accuracy {accuracy:.3f} is over {excess:.3f} above {unseen:.3f} of unseen samples")
        if thresholds.membership_contains_half and interval is not None and not interval[0] <= 0.5 <= interval[1]:
            reasons.append(f"the membership attack's AUC is within [{interval[0]:.3f}, {interval[1]:.3f}], without 0.5")
        reasons.extend(confidence_failures(evidence, thresholds.max_confidence_share))
        return (*reasons, *figure_failures(evidence, thresholds), *not_measured(evidence, thresholds))

    def kept_too_little(self, scope: ScopeKind, evidence: Evidence, goal: str | None = None) -> tuple[str, ...]:
        """In words, what the candidate has lost on retained data; empty where it has kept enough."""
        if not evidence.finite:
            return ("a parameter is not finite",)
        thresholds = self.thresholds(scope, goal)
        reasons: list[str] = []
        for against, reference, allowed in (
            ("the last accepted model", evidence.accepted_retain_accuracy, thresholds.max_retain_drop),
            ("the model before the first request", evidence.first_retain_accuracy, thresholds.max_total_retain_drop),
        ):
            reasons.extend(drop_failures(against, evidence.retain_accuracy, reference, allowed))
        return tuple(reasons)

    def decide_training(self, *, finite: bool, retain_accuracy: float | None, accepted: float | None) -> Decision:
        """Judge the result of a training experience: serve it, or go on serving the last accepted model."""
        if not finite:
            return Decision(Verdict.ROLL_BACK, ("a parameter is not finite",))
        reasons = drop_failures("the last accepted model", retain_accuracy, accepted, self.max_training_drop)
        return Decision(Verdict.ROLL_BACK if reasons else Verdict.ACCEPT, reasons)
