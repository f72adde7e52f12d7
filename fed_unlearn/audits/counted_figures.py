"""The figures of a request, from what holders counted of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from fed_unlearn.audits.accuracy import ClassCounts
from fed_unlearn.audits.asked import measured_of
from fed_unlearn.audits.base import Figures
from fed_unlearn.audits.counts import Part, RequestCounts
from fed_unlearn.audits.intervals import wilson_interval
from fed_unlearn.audits.measured import Measured

_NOTHING = 0, 0


def figures_of(
    counts: RequestCounts,
    classes: Collection[int],
    *,
    left_out: Collection[int],
    retain: ClassCounts | None,
    test: ClassCounts | None,
    class_test: ClassCounts | None = None,
    sampled: Collection[Part] = (),
    is_oracle: bool = False,
) -> Figures:
    """The figures of a request, from what was counted.

    All that are estimates have 95 % intervals. Accuracies on all of D_r and D_f are none, but for a model to which D_f
    is as unseen as a test sample.

    Parameters
    ----------
    counts : RequestCounts
        Counts of the request, summed over all holders.
    classes : collection of int
        The classes that the request names; empty for other scopes.
    left_out : collection of int
        Classes that are no part of D_r and D_rt.
    retain, test : ClassCounts or None
        Counts of D_r and of all test samples; None where they were not counted.
    class_test : ClassCounts, optional
        Counts of all test samples, for the figure of D_ft; ``test`` if None.
    sampled : collection of part
        Parts of which a sample was read.
    is_oracle : bool
        Whether the model never saw D_f.
    """
    of_classes = class_test or test
    hits: dict[str, tuple[Part | None, tuple[int, int]]] = {
        "forget_accuracy": (None, (counts.hits.correct, counts.hits.total)),
        "retain_accuracy": ("retain", retain.over(without=left_out) if retain is not None else _NOTHING),
        "test_forget_accuracy": ("test", of_classes.over(only=classes) if of_classes is not None else _NOTHING),
        "test_retain_accuracy": ("test", test.over(without=left_out) if test is not None else _NOTHING),
    }
    estimated = {"test", *sampled, *([None] if is_oracle else [])}
    shares = {name: share for name, (part, share) in hits.items() if share[1] and part in estimated}
    measured, attack = measured_of(counts.extra), counts.membership
    own, staying = counts.confidence.own, counts.confidence.staying
    return Figures(
        forget_accuracy=counts.hits.value,
        retain_accuracy=retain.accuracy(without=left_out) if retain is not None else None,
        test_forget_accuracy=of_classes.accuracy(only=classes) if of_classes is not None else None,
        test_retain_accuracy=test.accuracy(without=left_out) if test is not None else None,
        membership_auc=attack.value,
        extra={name: figure.value for name, figure in measured.items()},
        intervals={**{name: wilson_interval(*share) for name, share in shares.items()}, **_intervals(counts, measured)},
        samples={name: share[1] for name, (part, share) in hits.items() if share[1] and part in sampled},
        curves={"membership_auc": attack.curve} if attack.value is not None else {},
        client_confidence=own.value if own is not None else None,
        staying_confidence=staying.value if own is not None and staying is not None else None,
    )


def _intervals(counts: RequestCounts, measured: Mapping[str, Measured]) -> dict[str, tuple[float, float]]:
    """Intervals of all that is no accuracy, by the figure's name; without those that have none."""
    own, staying = counts.confidence.own, counts.confidence.staying
    found = {
        "membership_auc": counts.membership.interval,
        **{name: figure.interval for name, figure in measured.items()},
        "client_confidence": own.interval if own is not None else None,
        "staying_confidence": staying.interval if own is not None and staying is not None else None,
    }
    return {name: interval for name, interval in found.items() if interval is not None}
