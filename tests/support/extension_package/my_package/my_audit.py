from dataclasses import dataclass

from fed_unlearn.audits.base import RequestAudit


@dataclass(frozen=True)
class MeanConfidence(RequestAudit):
    """Mean probability of the true class, over what was to be forgotten."""

    probability: float = 0.0
    samples: int = 0

    @classmethod
    def count(cls, seen):
        labels = seen.forget.labels
        probabilities = seen.forget.logits.double().softmax(1)[range(len(labels)), labels]
        return cls(float(probabilities.sum()), len(labels))

    @property
    def value(self):
        return self.probability / self.samples if self.samples else None
