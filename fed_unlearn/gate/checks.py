"""What the gate looked at, figure by figure, for tables: the bounds, what a candidate shows, and whether it passes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fed_unlearn.audits.measured import Measured
from fed_unlearn.evidence import Evidence
from fed_unlearn.gate.failures import confidence_failures, ends_of, is_measured, reference_of
from fed_unlearn.gate.thresholds import Thresholds
from fed_unlearn.requests import ScopeKind

Interval = tuple[float, float]

VALIDATION_AUC = "validation_membership_auc"
"""AUC of the membership attack against validation samples, by which a gate judges; figures have it of test samples."""


@dataclass(frozen=True, kw_only=True)
class GateCheck:
    """One bound of the gate on one figure of a candidate.

    Attributes
    ----------
    figure : str
        ``forget_accuracy``; ``forget_excess``, the accuracy on D_f less that on unseen samples of the same classes;
        ``retain_drop`` and ``total_retain_drop``, how far validation accuracy on the classes of D_r fell against the
        last accepted model and against the model before the first request; ``validation_membership_auc``, the AUC of
        the membership attack against validation samples; ``client_confidence``; or the name of an audit's figure, here
        of validation samples.
    value : float or None
        The figure; None where it was not measured. Results of earlier versions have an interval alone of the AUC.
    interval : (float, float) or None
        Its 95 % interval, if it has one.
    minimum, maximum : float or None
        Bounds; None for no bound, or where what the figure is held beside was not measured.
    passed : bool or None
        Whether it is within the bounds: a figure with an interval fails only where the whole interval lies beyond. None
        where it was not measured and need not be.
    """

    figure: str
    value: float | None = None
    interval: Interval | None = None
    minimum: float | None = None
    maximum: float | None = None
    passed: bool | None = None

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> GateCheck:
        """Read what :func:`dataclasses.asdict` and :mod:`json` wrote."""
        interval, name = body.get("interval"), body["figure"]
        pair = None if interval is None else (interval[0], interval[1])
        # Earlier versions called it as the AUC against test samples, which is another figure.
        return cls(**{**body, "figure": VALIDATION_AUC if name == "membership_auc" else name, "interval": pair})


def is_excused(scope: ScopeKind, goal: str | None, *, is_retrained: bool) -> bool:
    """Whether it does not matter what a candidate says of a request's samples: it was trained anew without them."""
    return is_retrained and (scope == "client" or (scope == "sample" and goal == "indistinguishable"))


def checks_of(
    thresholds: Thresholds,
    scope: ScopeKind,
    evidence: Evidence,
    goal: str | None = None,
    *,
    before: Evidence | None = None,
    is_retrained: bool = False,
) -> tuple[GateCheck, ...]:
    """Every bound that a candidate was held against for one request, forgetting first.

    Parameters
    ----------
    thresholds : Thresholds
        The thresholds of the request's scope and goal.
    scope, goal : str
        Scope and goal of the request.
    evidence, before : Evidence
        Evidence of the candidate and of the model before the request, which may be None.
    is_retrained : bool
        Whether the candidate was trained anew without the samples.
    """
    if not evidence.finite:
        return ()
    judged = replace(evidence, is_retrained=is_retrained)
    looks = not is_excused(scope, goal, is_retrained=is_retrained)
    forgetting = tuple(_forgetting_checks(thresholds, judged, before)) if looks else ()
    if evidence.forget_accuracy is None:
        forgetting = tuple(_unread(check, scope, evidence, before, thresholds) for check in forgetting)
    return (*forgetting, *_keeping_checks(thresholds, evidence))


def _forgetting_checks(thresholds: Thresholds, evidence: Evidence, before: Evidence | None) -> Iterator[GateCheck]:
    accuracy, unseen = evidence.forget_accuracy, evidence.unseen_accuracy
    if thresholds.max_forget_accuracy is not None:
        yield _check("forget_accuracy", accuracy, maximum=thresholds.max_forget_accuracy)
    if thresholds.max_forget_excess is not None:
        excess = None if accuracy is None or unseen is None else accuracy - unseen
        yield _check("forget_excess", excess, maximum=thresholds.max_forget_excess)
    if thresholds.membership_contains_half:
        attack = evidence.membership_auc, evidence.membership_interval
        yield _check(VALIDATION_AUC, *attack, minimum=0.5, maximum=0.5)
    if thresholds.max_confidence_share is not None:
        yield _confidence_check(thresholds.max_confidence_share, evidence, before)
    yield from _figure_checks(thresholds, evidence)


def _keeping_checks(thresholds: Thresholds, evidence: Evidence) -> Iterator[GateCheck]:
    now = evidence.retain_accuracy
    for figure, reference, allowed in (
        ("retain_drop", evidence.accepted_retain_accuracy, thresholds.max_retain_drop),
        ("total_retain_drop", evidence.first_retain_accuracy, thresholds.max_total_retain_drop),
    ):
        if allowed is not None:
            yield _check(figure, None if now is None or reference is None else reference - now, maximum=allowed)


def _check(
    figure: str,
    value: float | None,
    interval: Interval | None = None,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
) -> GateCheck:
    low, high = interval or (value, value)
    over = maximum is not None and low is not None and low > maximum
    under = minimum is not None and high is not None and high < minimum
    return GateCheck(
        figure=figure,
        value=value,
        interval=interval,
        minimum=minimum,
        maximum=maximum,
        passed=None if low is None else not (over or under),
    )


def _confidence_check(share: float, evidence: Evidence, before: Evidence | None) -> GateCheck:
    own, staying = evidence.confidence, evidence.staying_confidence
    if own is None:
        return GateCheck(figure="client_confidence")
    knows = _still_knows(share, evidence, before)
    return GateCheck(
        figure="client_confidence",
        value=own.value,
        interval=own.interval,
        maximum=None if staying is None else share * max(staying, 0.0),
        passed=False if knows or confidence_failures(evidence, share) else None if staying is None else True,
    )


def _still_knows(share: float | None, evidence: Evidence, before: Evidence | None) -> bool:
    """Whether a client whose samples were known is within the bounds by no more than a hair."""
    known = before is not None and bool(confidence_failures(before, share))
    return known and before is not None and evidence.is_as_sure_as(before, share)


def _unread(
    check: GateCheck, scope: ScopeKind, evidence: Evidence, before: Evidence | None, thresholds: Thresholds
) -> GateCheck:
    """A check where no sample of D_f could be read: it fails, but not of a client, which may have taken its samples."""
    if scope != "client":
        return replace(check, passed=False) if check.value is None else check
    knows = check.figure == "client_confidence" and _still_knows(thresholds.max_confidence_share, evidence, before)
    return replace(check, passed=False if knows else None)


def _figure_checks(thresholds: Thresholds, evidence: Evidence) -> Iterator[GateCheck]:
    for name, bound in thresholds.figures.items():
        known = evidence.figures.get(name)
        measured = known if known is not None and is_measured(known) else Measured(None)
        minimum, maximum, is_held = bound.minimum, bound.maximum, True
        if bound.beside is not None:
            reference = reference_of(evidence, name, bound)
            is_held = reference is not None and not evidence.is_retrained
            if reference is not None and is_held:
                low, maximum = ends_of(reference)
                minimum = None if bound.beside == "reset-rows" else low
        check = _check(name, measured.value, measured.interval, minimum=minimum, maximum=maximum)
        if check.passed is None or not is_held:
            is_lacking = bound.needed and (check.passed is None or not evidence.is_retrained)
            check = replace(check, passed=False if is_lacking else None)
        yield check
