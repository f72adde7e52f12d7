"""How far the classes that a forgotten class's images go to are from those of models retrained without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from fed_unlearn.audits.base import AUDITS, CentralAudit, Observation
from fed_unlearn.audits.intervals import bootstrap_interval
from fed_unlearn.audits.readings import Readings
from fed_unlearn.requests import ScopeKind


@AUDITS.register("destination_distance")
@dataclass(frozen=True)
class DestinationDistance(CentralAudit):
    """Total variation distance of the shares on D_ft, by staying class, to the mean shares of the oracles.

    Attributes
    ----------
    distance, low, high : float or None
        Total variation distance from 0, where the shares are the same, to 1; and the ends of its bootstrap interval
        over the samples, which are the same for all models.
    """

    scopes: ClassVar[tuple[ScopeKind, ...]] = ("class",)
    cost: ClassVar[str] = "D_ft once through each oracle"

    distance: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def count(cls, seen: Observation) -> Self:
        """The distance; nothing without an oracle or without test samples of the class."""
        central = seen.central
        if central is None or not central.oracles or not len(central.data.parts["test_forget"]):
            return cls()
        own, *others = (_chosen(item, seen.staying) for item in (central.readings, *central.oracles))

        def distance(chosen: NDArray[np.int64]) -> float:
            shares = [np.bincount(side[chosen], minlength=seen.class_count) / len(chosen) for side in (own, *others)]
            return float(np.abs(shares[0] - np.mean(shares[1:], axis=0)).sum() / 2)

        low, high = bootstrap_interval(len(own), distance, seed=seen.seed, name=cls.name)
        return cls(distance(np.arange(len(own))), low, high)

    @property
    def value(self) -> float | None:
        """The distance."""
        return self.distance

    @property
    def interval(self) -> tuple[float, float] | None:
        """Its bootstrap interval."""
        return None if self.low is None or self.high is None else (self.low, self.high)


def _chosen(readings: Readings, staying: tuple[int, ...]) -> NDArray[np.int64]:
    logits = readings.answers("test_forget").served[:, list(staying)]
    chosen: NDArray[np.int64] = np.asarray(staying, dtype=np.int64)[logits.argmax(1).numpy()]
    return chosen
