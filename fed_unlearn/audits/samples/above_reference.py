"""How many of a request's samples stand above the level that a model gives them that never saw them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from fed_unlearn.audits.base import AUDITS, Observation, RequestAudit
from fed_unlearn.audits.sides import Side
from fed_unlearn.logits import confidence
from fed_unlearn.requests import ScopeKind


@AUDITS.register("above_reference")
@dataclass(frozen=True)
class AboveReference(RequestAudit):
    """Single samples beside the levels of a reference, one by one.

    An AUC over the few samples of a request does not see one memorised sample among them. The limits come from the
    method that unlearned the samples: at most one in twenty unseen samples lies above its own. Where the method read no
    reference there is no figure.

    Attributes
    ----------
    samples : int
        Number of samples with a limit.
    above : int
        Number of these above it.
    """

    scopes: ClassVar[tuple[ScopeKind, ...]] = ("sample", "client")
    sides: ClassVar[tuple[Side, ...]] = (Side("forget", "samples", ("above",)),)
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {"above_reference": (0.0, 1.0)}

    samples: int = 0
    above: int = 0

    @classmethod
    def count(cls, seen: Observation) -> Self:
        """Count the samples above their limits."""
        if seen.limits is None:
            return cls()
        above = confidence(seen.forget.logits, seen.forget.labels) > seen.limits
        return cls(len(seen.forget), int(above.sum()))

    @property
    def value(self) -> float | None:
        """Share of the samples above their limits."""
        return self.above / self.samples if self.samples else None

    def fits(self, class_count: int) -> bool:
        """Whether no more samples are above than there are."""
        return self.above <= self.samples
