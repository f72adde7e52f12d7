"""How many samples of each class a model gets right: counts, so that clients can be pooled exactly."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from fed_unlearn.audits.base import AUDITS, Counts, Observation, RequestAudit


@dataclass(frozen=True)
class ClassCounts(Counts):
    """Correct and total samples by true class.

    Attributes
    ----------
    correct, total : tuple of int
        Number of correct samples and of all samples, one entry a class.
    """

    correct: tuple[int, ...] = ()
    total: tuple[int, ...] = ()

    @classmethod
    def zero(cls, class_count: int) -> ClassCounts:
        """No samples at all."""
        return cls((0,) * class_count, (0,) * class_count)

    @classmethod
    def of(cls, logits: Tensor, labels: Tensor, class_count: int) -> ClassCounts:
        """Count top-1 hits.

        Parameters
        ----------
        logits : Tensor of shape (n, classes)
        labels : Tensor of shape (n,), int64
        class_count : int
        """
        if len(labels) == 0:
            return cls.zero(class_count)
        hits = labels[logits.argmax(1) == labels]
        return cls(
            tuple(torch.bincount(hits, minlength=class_count).tolist()),
            tuple(torch.bincount(labels, minlength=class_count).tolist()),
        )

    def accuracy(self, *, only: Collection[int] | None = None, without: Collection[int] = ()) -> float | None:
        """Fraction of samples that are right, over some of the classes; None where they have no sample."""
        correct, total = self.over(only=only, without=without)
        return correct / total if total else None

    def over(self, *, only: Collection[int] | None = None, without: Collection[int] = ()) -> tuple[int, int]:
        """Correct and total samples over some of the classes."""
        classes = [
            index for index in range(len(self.total)) if index not in without and (only is None or index in only)
        ]
        return sum(self.correct[index] for index in classes), sum(self.total[index] for index in classes)

    def fits(self, class_count: int) -> bool:
        """Whether there is one entry a class, and no class has more correct samples than samples."""
        pairs = zip(self.correct, self.total, strict=False)
        return len(self.correct) == len(self.total) == class_count and all(right <= of for right, of in pairs)


@AUDITS.register("forget_accuracy")
@dataclass(frozen=True)
class ForgetAccuracy(RequestAudit):
    """Top-1 hits on D_f.

    Attributes
    ----------
    correct, total : int
    class_totals : tuple of int
        D_f by class, where a whole client is forgotten; empty for other scopes.
    """

    correct: int = 0
    total: int = 0
    class_totals: tuple[int, ...] = ()

    @classmethod
    def count(cls, seen: Observation) -> Self:
        """Hits on one holder's part of D_f."""
        labels = seen.forget.labels
        if len(labels) == 0:
            return cls()
        totals = torch.bincount(labels, minlength=seen.class_count).tolist() if seen.scope == "client" else ()
        return cls(int((seen.forget.logits.argmax(1) == labels).sum()), len(labels), tuple(totals))

    @property
    def value(self) -> float | None:
        """Accuracy on D_f; None where no holder may read it."""
        return self.correct / self.total if self.total else None

    def fits(self, class_count: int) -> bool:
        """Whether at most all samples are correct, and ``class_totals`` is empty or has one entry a class."""
        return self.correct <= self.total and len(self.class_totals) in (0, class_count)
