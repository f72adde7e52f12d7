"""How well the forgotten class's own score still ranks its images above those of the classes that stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from fed_unlearn.audits.base import AUDITS, Judged, Measured, Observation, RequestAudit
from fed_unlearn.audits.outputs.held_out import held_out_of
from fed_unlearn.audits.outputs.score_histograms import (
    BIN_COUNT,
    ranking_auc,
    recall_where_few_are_called,
    score_histogram,
)
from fed_unlearn.audits.sides import Side
from fed_unlearn.requests import ScopeKind


@AUDITS.register("logit_ranking")
@dataclass(frozen=True)
class LogitRanking(RequestAudit):
    """Histograms of the class's score, ``BIN_COUNT`` counts each; empty where nobody had such samples.

    The score is the class's log-odds without its own bias, before any mask (:mod:`fed_unlearn.audits.scores`): no
    constant on the class's output changes it. Of a request for several classes it is the largest of theirs. A model
    that never saw a class ranks it, too; the aim is the oracle's figure, not 0.5.

    Figures: ``logit_auc``, and ``recall_at_5``, the recall of the class if its bias were shifted until 5 % of the
    staying classes' images score above the same threshold.

    Attributes
    ----------
    test_class, test_staying : tuple of int
        Histograms of test samples of the class, and of the classes that stay.
    held_out_class, held_out_staying : tuple of int
        The same histograms of validation samples. At a holder that has none of the class, samples of D_f stand in.
    """

    scopes: ClassVar[tuple[ScopeKind, ...]] = ("class",)
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {"logit_auc": (0.0, 1.0), "recall_at_5": (0.0, 1.0)}
    sides: ClassVar[tuple[Side, ...]] = (
        Side("test_forget", "test_class"),
        Side("test_retain", "test_staying"),
        Side("held_out", "held_out_class"),
        Side("held_out_retain", "held_out_staying"),
    )

    test_class: tuple[int, ...] = ()
    test_staying: tuple[int, ...] = ()
    held_out_class: tuple[int, ...] = ()
    held_out_staying: tuple[int, ...] = ()

    @classmethod
    def count(cls, seen: Observation) -> Self:
        """The histograms of one holder."""
        sides = (seen.outsiders, seen.test_retain, held_out_of(seen), seen.held_out_retain)
        return cls(*(_histogram(side, seen.classes) for side in sides)) if seen.classes else cls()

    @property
    def value(self) -> float | None:
        """``logit_auc``."""
        return self.figures["logit_auc"].value

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval of ``logit_auc``."""
        return self.figures["logit_auc"].interval

    @property
    def figures(self) -> Mapping[str, Measured]:
        """Of test samples; of validation samples where there are none."""
        if any(self.test_class) and any(self.test_staying):
            return _figures(self.test_class, self.test_staying)
        return self.gate_figures

    @property
    def gate_figures(self) -> Mapping[str, Measured]:
        """Of validation samples."""
        return _figures(self.held_out_class, self.held_out_staying)

    def fits(self, class_count: int) -> bool:
        """Whether every histogram is empty or has ``BIN_COUNT`` counts."""
        sides = (self.test_class, self.test_staying, self.held_out_class, self.held_out_staying)
        return all(len(side) in (0, BIN_COUNT) for side in sides)


def _figures(high: tuple[int, ...], low: tuple[int, ...]) -> Mapping[str, Measured]:
    return {"logit_auc": ranking_auc(high, low), "recall_at_5": recall_where_few_are_called(high, low)}


def _histogram(side: Judged | None, classes: tuple[int, ...]) -> tuple[int, ...]:
    if side is None or len(side) == 0:
        return ()
    return score_histogram(side.class_scores[:, list(classes)].amax(1))
