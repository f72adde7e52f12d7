"""Accuracy on D_f, D_r, D_ft and D_rt with its uncertainty, where all samples are in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from fed_unlearn.audits.base import AUDITS, CentralAudit, Measured, Observation
from fed_unlearn.audits.intervals import wilson_interval
from fed_unlearn.audits.readings import PartName

_PARTS: tuple[PartName, ...] = ("forget", "retain", "test_forget", "test_retain")


@AUDITS.register("splits")
@dataclass(frozen=True)
class Splits(CentralAudit):
    """Top-1 hits by split; the figures have the names of the fields of ``Figures``, and Wilson's interval.

    Attributes
    ----------
    correct, total : tuple of int
        Number of hits and of samples on D_f, on (the sample of) D_r, on D_ft and on D_rt.
    """

    cost: ClassVar[str] = "the sample of D_r once"

    correct: tuple[int, ...] = ()
    total: tuple[int, ...] = ()

    @classmethod
    def count(cls, seen: Observation) -> Self:
        """Hits of the audited model."""
        if seen.central is None:
            return cls()
        answers = [seen.central.readings.answers(part) for part in _PARTS]
        hits = (int((item.served.argmax(1) == item.labels).sum()) if len(item.labels) else 0 for item in answers)
        return cls(tuple(hits), tuple(len(item.labels) for item in answers))

    @property
    def value(self) -> float | None:
        """``forget_accuracy``."""
        measured = self.figures.get("forget_accuracy")
        return measured.value if measured is not None else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval of ``forget_accuracy``."""
        measured = self.figures.get("forget_accuracy")
        return measured.interval if measured is not None else None

    @property
    def figures(self) -> Mapping[str, Measured]:
        """By name; a split without samples is left out."""
        columns = zip(_PARTS, self.correct, self.total, strict=False)
        return {
            f"{part}_accuracy": Measured(hits / total, wilson_interval(hits, total))
            for part, hits, total in columns
            if total
        }
