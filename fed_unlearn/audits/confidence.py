"""How much surer a model is of a client's samples than of unseen ones, from sums that clients can add."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch

from fed_unlearn.audits.base import AUDITS, Judged, Observation, RequestAudit
from fed_unlearn.evidence import Difference
from fed_unlearn.logits import confidence

LARGEST = 20.0
"""Log-odds of a sample's own class are cut off at this value and at its negative."""

UNIT = 1000
"""Number of steps in one unit of log-odds, which are counted in whole steps from 0: sums are exact in any order."""


@AUDITS.register("client_confidence")
@dataclass(frozen=True)
class ClientConfidence(RequestAudit):
    """Number, sum and sum of squares by class of the log-odds of samples; empty for requests of other scopes.

    Attributes
    ----------
    own_total, own_sum, own_squares : tuple of int
        Number, sum and sum of squares for the samples of the client that is forgotten, one entry a class.
    unseen_total, unseen_sum, unseen_squares : tuple of int
        Number, sum and sum of squares for validation samples, which nothing was trained on, one entry a class.
    staying_total, staying_sum, staying_squares : tuple of int
        Number, sum and sum of squares for retained training samples of the clients that stay, one entry a class.
    """

    own_total: tuple[int, ...] = ()
    own_sum: tuple[int, ...] = ()
    own_squares: tuple[int, ...] = ()
    unseen_total: tuple[int, ...] = ()
    unseen_sum: tuple[int, ...] = ()
    unseen_squares: tuple[int, ...] = ()
    staying_total: tuple[int, ...] = ()
    staying_sum: tuple[int, ...] = ()
    staying_squares: tuple[int, ...] = ()

    @classmethod
    def count(cls, seen: Observation) -> Self:
        """The sums of one holder; nothing where the request is not for a client."""
        if seen.scope != "client":
            return cls()
        sides = (seen.forget, seen.validation, seen.retained)
        return cls(*(part for side in sides for part in _sums(side, seen.class_count)))

    @property
    def value(self) -> float | None:
        """Mean difference between the client's samples and unseen ones of their classes; None without either."""
        return self.own.value if self.own is not None else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of ``value``; None where there is no value."""
        return self.own.interval if self.own is not None else None

    @property
    def own(self) -> Difference | None:
        """Difference of the client that is forgotten."""
        return self._difference(self.own_total, self.own_sum, self.own_squares)

    @property
    def staying(self) -> Difference | None:
        """Difference of the clients that stay, over the same classes in the same shares."""
        return self._difference(self.staying_total, self.staying_sum, self.staying_squares)

    def fits(self, class_count: int) -> bool:
        """Whether all are empty or have one entry a class, and no sum is larger than so many samples can have."""
        lengths = {len(side) for side in self.to_numbers().values() if isinstance(side, list)}
        most = round(2 * LARGEST * UNIT)
        sides = (
            (self.own_total, self.own_sum, self.own_squares),
            (self.unseen_total, self.unseen_sum, self.unseen_squares),
            (self.staying_total, self.staying_sum, self.staying_squares),
        )
        return lengths <= {0, class_count} and all(
            len(total) == len(sums) == len(squares)
            and all(
                one <= most * count and one * one <= count * square <= count * most * one
                for count, one, square in zip(total, sums, squares, strict=True)
            )
            for total, sums, squares in sides
        )

    def _difference(
        self, totals: tuple[int, ...], sums: tuple[int, ...], squares: tuple[int, ...]
    ) -> Difference | None:
        """Difference to unseen samples, class by class, weighted by the classes of the client that is forgotten.

        Both sides of a class are taken to scatter as all classes of that side do, since few samples of a class say
        little of it.
        """
        if not (self.own_total and self.unseen_total and totals):
            return None
        classes = [
            index for index, count in enumerate(self.own_total) if count and self.unseen_total[index] and totals[index]
        ]
        weight = sum(self.own_total[index] for index in classes)
        if not weight:
            return None
        value = variance = 0.0
        sides = ((1, totals, sums, squares), (-1, self.unseen_total, self.unseen_sum, self.unseen_squares))
        for sign, count, total, square in sides:
            scatter = scatter_of(count, total, square)
            for index in classes:
                share = self.own_total[index] / weight
                value += sign * share * total[index] / count[index]
                variance += share * share * scatter / count[index]
        return Difference(value=value / UNIT, error=math.sqrt(variance) / UNIT)


def _sums(side: Judged | None, class_count: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    if side is None or len(side) == 0:
        return (), (), ()
    clipped = confidence(side.logits, side.labels).double().nan_to_num(-LARGEST).clamp(-LARGEST, LARGEST)
    steps = ((clipped + LARGEST) * UNIT).round().long()
    totals, sums, squares = (torch.zeros(class_count, dtype=torch.int64) for _ in range(3))
    for into, values in ((totals, torch.ones_like(steps)), (sums, steps), (squares, steps * steps)):
        into.index_add_(0, side.labels, values)
    return tuple(totals.tolist()), tuple(sums.tolist()), tuple(squares.tolist())


def scatter_of(totals: tuple[int, ...], sums: tuple[int, ...], squares: tuple[int, ...]) -> float:
    """Variance of log-odds within classes, over all of them together, from sums by class."""
    within = sum(square - one * one / count for count, one, square in zip(totals, sums, squares, strict=True) if count)
    freedom = sum(totals) - sum(1 for count in totals if count)
    if freedom > 0:
        return max(within, 0.0) / freedom
    return float((LARGEST * UNIT) ** 2)  # one sample a class says nothing of how they scatter
