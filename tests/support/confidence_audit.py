"""An audit as another package would write it: how sure a model is of the true class of what it was to forget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import pytest

from fed_unlearn.audits.base import AUDITS, Observation, RequestAudit

NAME = "mean-confidence"


@dataclass(frozen=True)
class MeanConfidence(RequestAudit):
    """Mean probability of the true class, over D_f."""

    probability: float = 0.0
    samples: int = 0
    by_class: tuple[int, ...] = ()

    @classmethod
    def count(cls, seen: Observation) -> Self:
        labels = seen.forget.labels
        if len(labels) == 0:
            return cls()
        probabilities = seen.forget.logits.double().softmax(1)[range(len(labels)), labels]
        counts = labels.bincount(minlength=seen.class_count)
        return cls(float(probabilities.sum()), len(labels), tuple(counts.tolist()))

    @property
    def value(self) -> float | None:
        return self.probability / self.samples if self.samples else None


def install(monkeypatch: pytest.MonkeyPatch, name: str = NAME, audit: type[RequestAudit] = MeanConfidence) -> None:
    """Register the audit until the test ends."""
    monkeypatch.setattr(AUDITS, "_classes", AUDITS.available())
    AUDITS.register(name)(audit)
