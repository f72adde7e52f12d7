"""Is a class still recognised by its own output row, once its bias and any mask are set aside?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch.nn import functional

from fed_unlearn.audits.base import AUDITS, Observation, RequestAudit
from fed_unlearn.audits.intervals import wilson_interval
from fed_unlearn.audits.sides import Side
from fed_unlearn.requests import ScopeKind


@AUDITS.register("recall_without_bias")
@dataclass(frozen=True)
class RecallWithoutBias(RequestAudit):
    """Samples of D_f whose class the output layer puts first without the class's own bias, and before any mask.

    0 for a retrained model: no step has taught the row to name the class. A class that was hidden by one constant, on
    its bias or behind the output layer, keeps the recall that it had before. The figure cannot see a row that was
    overwritten, negated or scaled, a class that another direction of the features hides, or one constant on the outputs
    of all other classes. Biases of the others are set aside as far as scores tell: each is compared without its own,
    beside the others with theirs. Samples without a finite score do not count.

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
        scores, labels = seen.forget.class_scores.double(), seen.forget.labels[:, None]
        is_finite = scores.isfinite().all(1)
        scores, labels = scores[is_finite], labels[is_finite]
        # Each other class's probability without its own bias: exact where the others have none or the same one.
        others = functional.logsigmoid(scores).scatter(1, labels, -torch.inf)
        largest = others.amax(1) - others.logsumexp(1)
        return cls(int((scores.gather(1, labels)[:, 0] > largest).sum()), len(labels))

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
