"""Where a forgotten class's images go: which of the staying classes the model takes them for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch

from fed_unlearn.audits.base import AUDITS, Judged, Measured, Observation, RequestAudit
from fed_unlearn.audits.intervals import QUANTILE, wilson_interval
from fed_unlearn.audits.outputs.held_out import held_out_of
from fed_unlearn.audits.sides import Side
from fed_unlearn.requests import ScopeKind


@AUDITS.register("destinations")
@dataclass(frozen=True)
class Destinations(RequestAudit):
    """Number of the class's samples by the staying class that the model prefers for them.

    Figures: ``destination_entropy``, the entropy of the shares over that of equal shares, 0 where all samples go to
    one class; and ``destination_top``, the largest share. Methods that push all samples to one class stand out. The
    interval of the former is normal, by the delta method; that of the latter takes the class as given (Wilson).

    Attributes
    ----------
    test, held_out : tuple of int
        Counts of test samples, and of validation samples; a holder without such validation samples counts those of D_f.
        Each has one entry a class.
    stays : tuple of int
        Number of holders that take a class for one that stays, one entry a class.
    """

    scopes: ClassVar[tuple[ScopeKind, ...]] = ("class",)
    sides: ClassVar[tuple[Side, ...]] = (Side("test_forget", "test"), Side("held_out", "held_out"))

    test: tuple[int, ...] = ()
    held_out: tuple[int, ...] = ()
    stays: tuple[int, ...] = ()

    @classmethod
    def count(cls, seen: Observation) -> Self:
        """The counts of one holder."""
        if not seen.classes or not seen.staying:
            return cls()
        test, held_out = (
            counts_of(side, seen.staying, seen.class_count) for side in (seen.outsiders, held_out_of(seen))
        )
        if not test and not held_out:
            return cls()
        return cls(test, held_out, tuple(int(index in seen.staying) for index in range(seen.class_count)))

    @property
    def value(self) -> float | None:
        """``destination_entropy``."""
        return self.figures["destination_entropy"].value

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval of ``destination_entropy``."""
        return self.figures["destination_entropy"].interval

    @property
    def figures(self) -> Mapping[str, Measured]:
        """Of test samples; of validation samples where there are none."""
        return self._of(self.test) if any(self.test) else self.gate_figures

    @property
    def gate_figures(self) -> Mapping[str, Measured]:
        """Of validation samples."""
        return self._of(self.held_out)

    def fits(self, class_count: int) -> bool:
        """Whether all are empty or have one entry a class."""
        return all(len(side) in (0, class_count) for side in (self.test, self.held_out, self.stays))

    def _of(self, counts: Sequence[int]) -> Mapping[str, Measured]:
        total, classes = sum(counts), sum(holders > 0 for holders in self.stays)
        if not total or classes < 2:
            return {"destination_entropy": Measured(None), "destination_top": Measured(None)}
        shares = [count / total for count in counts if count]
        entropy = -sum(share * math.log(share) for share in shares)
        variance = (sum(share * math.log(share) ** 2 for share in shares) - entropy**2) / total
        value, half = entropy / math.log(classes), QUANTILE * math.sqrt(max(0.0, variance)) / math.log(classes)
        top = max(counts)
        return {
            "destination_entropy": Measured(value, (max(0.0, value - half), min(1.0, value + half))),
            "destination_top": Measured(top / total, wilson_interval(top, total)),
        }


def counts_of(side: Judged | None, staying: Sequence[int], class_count: int) -> tuple[int, ...]:
    """Number of samples by the staying class with the largest output; empty where there is no sample.

    Parameters
    ----------
    side : Judged or None
    staying : sequence of int
        Classes that stay, at least one.
    class_count : int
    """
    if side is None or len(side) == 0:
        return ()
    chosen = torch.tensor(staying)[side.logits[:, list(staying)].argmax(1)]
    return tuple(torch.bincount(chosen, minlength=class_count).tolist())
