"""Forgetting, retaining and generalising in one figure, beside models retrained without the forgotten samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from fed_unlearn.audits.base import AUDITS, CentralAudit, Observation
from fed_unlearn.audits.intervals import RESAMPLES
from fed_unlearn.audits.readings import PartName, Readings
from fed_unlearn.seeding import derive_seed

_SETS: tuple[tuple[PartName, ...], ...] = (("forget",), ("retain",), ("test_forget", "test_retain"))


@AUDITS.register("tug_of_war")
@dataclass(frozen=True)
class TugOfWar(CentralAudit):
    """Product over D_f, D_r and all test samples of 1 - |accuracy - oracle's accuracy|, mean over oracles.

    The value is in [0, 1], and 1 where all accuracies are the oracle's (Zhao, Kurmanji, Barbulescu, Triantafillou and
    Triantafillou, NeurIPS 2024). A set without samples is left out. The interval comes from a bootstrap over the
    samples of each set, which are the same for all models.

    Attributes
    ----------
    mean, low, high : float or None
    """

    cost: ClassVar[str] = "D_f, the sample of D_r and all test samples once through each oracle"

    mean: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def count(cls, seen: Observation) -> Self:
        """The figure; nothing without an oracle."""
        central = seen.central
        if central is None or not central.oracles:
            return cls()
        models = (central.readings, *central.oracles)
        sets = [np.stack([_hits(item, parts) for item in models]) for parts in _SETS]
        random = np.random.default_rng(derive_seed(seen.seed, "bootstrap", cls.name))
        drawn = np.stack([_drawn(hits, random) for hits in sets if hits.shape[1]])
        measured = np.stack([hits.mean(1, keepdims=True) for hits in sets if hits.shape[1]])
        low, high = np.quantile(_figure(drawn), [0.025, 0.975])
        return cls(float(_figure(measured)[0]), float(low), float(high))

    @property
    def value(self) -> float | None:
        """The figure."""
        return self.mean

    @property
    def interval(self) -> tuple[float, float] | None:
        """Its bootstrap interval."""
        return None if self.low is None or self.high is None else (self.low, self.high)


def _hits(readings: Readings, parts: tuple[PartName, ...]) -> NDArray[np.bool_]:
    answers = [readings.answers(part) for part in parts if len(readings.data.parts[part])]
    right = [(answer.served.argmax(1) == answer.labels).numpy() for answer in answers]
    return np.concatenate(right) if right else np.zeros(0, dtype=np.bool_)


def _drawn(hits: NDArray[np.bool_], random: np.random.Generator) -> NDArray[np.float64]:
    """Accuracies of resamples, of shape (models, resamples)."""
    count = hits.shape[1]
    return np.stack([hits[:, random.integers(count, size=count)].mean(1) for _ in range(RESAMPLES)], axis=1)


def _figure(accuracies: NDArray[np.float64]) -> NDArray[np.float64]:
    """The figure of accuracies of shape (sets, models, draws), the audited model first: of shape (draws,)."""
    shares = 1 - np.abs(accuracies[:, :1] - accuracies[:, 1:])
    mean: NDArray[np.float64] = shares.prod(0).mean(0)
    return mean
