"""The loss-threshold membership attack on a request (Yeom et al., 2018), from histograms that clients can add."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from fed_unlearn.audits.base import AUDITS, Judged, Measured, Observation, RequestAudit
from fed_unlearn.audits.membership import BIN_COUNT, confidence_histogram, membership_auc, membership_interval
from fed_unlearn.audits.roc import DECIMALS, Corner, roc_corners


@AUDITS.register("membership_auc")
@dataclass(frozen=True)
class MembershipAttack(RequestAudit):
    """Histograms of the confidence in samples, ``BIN_COUNT`` counts each; empty where nobody had such samples.

    Attributes
    ----------
    member_histogram : tuple of int
        Histogram of samples of D_f.
    outsider_histogram : tuple of int
        Histogram of test samples of the same classes. Where a request names no class, a holder takes those of its own
        forget samples, so that no label of a forget sample leaves it.
    unseen_histogram : tuple of int
        Histogram of validation samples of the same classes that no method reads.
    """

    member_histogram: tuple[int, ...] = ()
    outsider_histogram: tuple[int, ...] = ()
    unseen_histogram: tuple[int, ...] = ()

    @classmethod
    def count(cls, seen: Observation) -> Self:
        """The three histograms of one holder."""
        return cls(*(_histogram(side) for side in (seen.forget, seen.outsiders, seen.unseen)))

    @property
    def value(self) -> float | None:
        """AUC of D_f against test samples: 0.5 means that the attack cannot tell them apart."""
        if not any(self.member_histogram) or not any(self.outsider_histogram):
            return None
        return membership_auc(self.member_histogram, self.outsider_histogram)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of ``value``; None where there is no value."""
        return None if self.value is None else membership_interval(self.member_histogram, self.outsider_histogram)

    @property
    def against_unseen(self) -> Measured:
        """AUC of D_f against validation samples that no method reads, with its interval: what a gate judges by.

        Its value is None where a side has no sample.
        """
        if not any(self.member_histogram) or not any(self.unseen_histogram):
            return Measured(None)
        sides = self.member_histogram, self.unseen_histogram
        return Measured(membership_auc(*sides), membership_interval(*sides))

    @property
    def gate_figures(self) -> Mapping[str, Measured]:
        """The AUC against validation samples."""
        return {self.name: self.against_unseen}

    @property
    def curve(self) -> tuple[Corner, ...]:
        """Corners of the ROC curve whose area is ``value``, rounded to ``DECIMALS``; none where there is no value."""
        if self.value is None:
            return ()
        corners = roc_corners(self.member_histogram, self.outsider_histogram)
        return tuple((round(false, DECIMALS), round(true, DECIMALS)) for false, true in corners)

    def fits(self, class_count: int) -> bool:
        """Whether every histogram is empty or has ``BIN_COUNT`` counts."""
        sides = (self.member_histogram, self.outsider_histogram, self.unseen_histogram)
        return all(len(side) in (0, BIN_COUNT) for side in sides)


def _histogram(side: Judged | None) -> tuple[int, ...]:
    return () if side is None else tuple(confidence_histogram(side.logits, side.labels))
