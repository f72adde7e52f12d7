"""Whether a model is surer or less sure of forgotten samples than of unseen ones of the classes that stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch

from fed_unlearn.audits.base import AUDITS, Judged, Measured, Observation, RequestAudit
from fed_unlearn.audits.intervals import mean_difference
from fed_unlearn.audits.sides import Side
from fed_unlearn.requests import ScopeKind

UNIT = 10**9
"""Number of steps in one unit of a value. Values are counted in whole steps, so that sums are exact in any order."""

_SUMS = ("confidence", "confidence_squares", "entropy", "entropy_squares")


@AUDITS.register("sureness")
@dataclass(frozen=True)
class Sureness(RequestAudit):
    """Sums of the largest probability among staying classes, and of the entropy over them, in nats.

    Both are of the model's outputs, renormalised over the classes that stay: neither a mask nor a bias of a forgotten
    class changes them. Figures: ``confidence_gap`` and ``entropy_gap``, the mean of D_f minus that of unseen samples of
    the staying classes. A model that was made surer of its new answers has a confidence gap above the oracle's.

    Attributes
    ----------
    forget_total, test_total, held_out_total : int
        Number of samples of D_f, and of test and of validation samples of the staying classes.
    forget_confidence, ..., held_out_entropy_squares : int
        Sums over them, and sums of squares, in units of one :data:`UNIT`-th.
    """

    scopes: ClassVar[tuple[ScopeKind, ...]] = ("class",)
    sides: ClassVar[tuple[Side, ...]] = tuple(
        Side(kind, f"{name}_total", tuple(f"{name}_{part}" for part in _SUMS))  # type: ignore[arg-type]
        for kind, name in (("forget", "forget"), ("test_retain", "test"), ("held_out_retain", "held_out"))
    )

    forget_total: int = 0
    forget_confidence: int = 0
    forget_confidence_squares: int = 0
    forget_entropy: int = 0
    forget_entropy_squares: int = 0
    test_total: int = 0
    test_confidence: int = 0
    test_confidence_squares: int = 0
    test_entropy: int = 0
    test_entropy_squares: int = 0
    held_out_total: int = 0
    held_out_confidence: int = 0
    held_out_confidence_squares: int = 0
    held_out_entropy: int = 0
    held_out_entropy_squares: int = 0

    @classmethod
    def count(cls, seen: Observation) -> Self:
        """The sums of one holder."""
        if not seen.classes or not seen.staying:
            return cls()
        sides = (seen.forget, seen.test_retain, seen.held_out_retain)
        return cls(*(number for side in sides for number in _sums(side, seen.staying)))

    @property
    def value(self) -> float | None:
        """``confidence_gap``."""
        return self.figures["confidence_gap"].value

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval of ``confidence_gap``."""
        return self.figures["confidence_gap"].interval

    @property
    def figures(self) -> Mapping[str, Measured]:
        """Against test samples; against validation samples where there are none."""
        return self._against("test") if self.test_total else self.gate_figures

    @property
    def gate_figures(self) -> Mapping[str, Measured]:
        """Against validation samples."""
        return self._against("held_out")

    def fits(self, class_count: int) -> bool:
        """Whether no sum is larger than so many samples can have."""
        return all(
            self._fit(name, "confidence", 1.0) and self._fit(name, "entropy", max(1.0, float(class_count)))
            for name in ("forget", "test", "held_out")
        )

    def _fit(self, name: str, part: str, most: float) -> bool:
        count, total, squares = self._side(name, part)
        slack = count + 1  # each sample's values are rounded
        return (
            total <= most * UNIT * count
            and squares <= most * total + slack
            and (max(0, total - slack) ** 2 <= count * (squares + slack) * UNIT)
        )

    def _side(self, name: str, part: str) -> tuple[int, int, int]:
        names = (f"{name}_total", f"{name}_{part}", f"{name}_{part}_squares")
        count, total, squares = (getattr(self, field) for field in names)
        return count, total, squares

    def _against(self, unseen: str) -> Mapping[str, Measured]:
        return {f"{part}_gap": self._gap(part, unseen) for part in ("confidence", "entropy")}

    def _gap(self, part: str, unseen: str) -> Measured:
        sides = [self._side(name, part) for name in ("forget", unseen)]
        if not all(count for count, _, _ in sides):
            return Measured(None)
        first, second = ((count, total / UNIT, squares / UNIT) for count, total, squares in sides)
        return Measured(*mean_difference(first, second))


def _sums(side: Judged | None, staying: tuple[int, ...]) -> tuple[int, ...]:
    if side is None or len(side) == 0:
        return (0, 0, 0, 0, 0)
    probabilities = side.logits[:, list(staying)].double().softmax(1).nan_to_num(0.0)
    values = (probabilities.amax(1), torch.special.entr(probabilities).sum(1))
    powers = (power for value in values for power in (value, value * value))
    return (len(side), *(int((power * UNIT).round().long().sum()) for power in powers))
