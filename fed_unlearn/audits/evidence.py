"""From what was counted of a candidate model to the evidence that the gate decides on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fed_unlearn.audits.accuracy import ClassCounts
from fed_unlearn.audits.counts import RequestCounts
from fed_unlearn.gate import Evidence
from fed_unlearn.requests import ScopeKind


def evidence_of(
    kept: Evidence,
    scope: ScopeKind,
    counts: RequestCounts,
    validation: ClassCounts | None,
    methods_left: int = 0,
) -> Evidence:
    """What a candidate has forgotten of one request, beside what it has kept.

    Parameters
    ----------
    kept : Evidence
        Of the candidate as a whole: retained accuracies, attempt and repair rounds.
    scope : str
        Of the request.
    counts : RequestCounts
        Of its forget set, all holders together.
    validation : ClassCounts or None
        Of all classes.
    methods_left : int
        Methods that may still be tried for it.
    """
    return replace(
        kept,
        forget_accuracy=counts.hits.value,
        unseen_accuracy=_expected(counts.hits.class_totals, validation) if scope == "client" else None,
        membership_interval=counts.membership.interval,
        methods_left=methods_left,
    )


def _expected(class_totals: Sequence[int], validation: ClassCounts | None) -> float | None:
    """Accuracy that samples of these classes would have if each class were recognised as unseen ones of it are."""
    if validation is None or not any(class_totals):
        return None
    known = [
        (count, validation.correct[index] / validation.total[index])
        for index, count in enumerate(class_totals)
        if count and validation.total[index]
    ]
    total = sum(count for count, _ in known)
    return sum(count * accuracy for count, accuracy in known) / total if total else None
