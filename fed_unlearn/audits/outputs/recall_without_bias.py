"""Is a class still recognised by its own output row, once its bias and any mask are set aside?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from fed_unlearn.audits.base import AUDITS, Observation, RequestAudit
from fed_unlearn.audits.intervals import wilson_interval
from fed_unlearn.audits.sides import Side
from fed_unlearn.requests import ScopeKind


@AUDITS.register("recall_without_bias")
@dataclass(frozen=True)
class RecallWithoutBias(RequestAudit):
    """Samples of D_f to which the output layer gives more than even odds of their class, without the class's bias.

    0 for a retrained model: no step has taught the row to name the class. A class that was hidden by one constant, on
    its bias or behind the output layer, keeps the recall that it had before. The figure cannot see a row that was
    overwritten, or a class that another direction of the features hides.

    Attributes
    ----------
    recognised, total : int
    """

    scopes: ClassVar[tuple[ScopeKind, ...]] = ("class",)
    sides: ClassVar[tuple[Side, ...]] = (Side("forget", "total", ("recognised",)),)
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {"recall_without_bias": (0.0, 1.0)}

    recognised: int = 0
    total: int = 0

    @classmethod
    def count(cls, seen: Observation) -> Self:
        """The samples of one holder."""
        if not len(seen.forget):
            return cls()
        own = seen.forget.class_scores.gather(1, seen.forget.labels[:, None])
        return cls(int((own > 0).sum()), len(own))

    @property
    def value(self) -> float | None:
        """The share; None where no holder may read D_f."""
        return self.recognised / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of a share of so many samples (Wilson)."""
        return wilson_interval(self.recognised, self.total) if self.total else None

    def fits(self, class_count: int) -> bool:
        """Whether no more samples are recognised than there are."""
        return self.recognised <= self.total
