"""How many samples of each class a model gets right: counts, so that clients can be pooled exactly."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ClassCounts:
    """Correct and total samples by true class.

    Attributes
    ----------
    correct, total : tuple of int
        One entry a class.
    """

    correct: tuple[int, ...]
    total: tuple[int, ...]

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

    def __add__(self, other: ClassCounts) -> ClassCounts:
        return ClassCounts(_added(self.correct, other.correct), _added(self.total, other.total))

    def accuracy(self, *, only: Collection[int] | None = None, without: Collection[int] = ()) -> float | None:
        """Fraction of samples that are right, over some of the classes; None where they have no sample."""
        classes = [
            index for index in range(len(self.total)) if index not in without and (only is None or index in only)
        ]
        total = sum(self.total[index] for index in classes)
        return sum(self.correct[index] for index in classes) / total if total else None


def _added(first: Sequence[int], second: Sequence[int]) -> tuple[int, ...]:
    return tuple(left + right for left, right in zip(first, second, strict=True))
