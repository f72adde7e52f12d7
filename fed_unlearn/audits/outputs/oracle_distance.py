"""How far the outputs on the forgotten samples are from those of models retrained without them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from fed_unlearn.audits.base import AUDITS, CentralAudit, Measured, Observation
from fed_unlearn.audits.intervals import bootstrap_interval

Interval = tuple[float, float]


@AUDITS.register("oracle_distance")
@dataclass(frozen=True)
class OracleDistance(CentralAudit):
    """Mean distances of the softmax outputs on D_f to those of each oracle, over samples and over oracles.

    Figures: ``js_divergence``, of Jensen and Shannon with natural logarithms, from 0 to ln 2; and
    ``activation_distance``, the L2 distance (Golatkar, Achille and Soatto, CVPR 2021), from 0 to the root of 2. Two
    oracles differ, too: only an oracle that is left out says what is small. Intervals are of a bootstrap over samples.

    Attributes
    ----------
    js, activation : float or None
    js_interval, activation_interval : tuple of float
        Ends of the intervals of both distances; empty where there are none.
    """

    cost: ClassVar[str] = "D_f once through each oracle"

    js: float | None = None
    activation: float | None = None
    js_interval: tuple[float, ...] = ()
    activation_interval: tuple[float, ...] = ()

    @classmethod
    def count(cls, seen: Observation) -> Self:
        """The distances; nothing without an oracle or without a sample of D_f."""
        central = seen.central
        if central is None or not central.oracles or not len(central.data.parts["forget"]):
            return cls()
        own, *others = (
            item.answers("forget").served.double().softmax(1) for item in (central.readings, *central.oracles)
        )
        js = torch.stack([js_divergences(own, other) for other in others]).mean(0)
        distances = torch.stack([(own - other).norm(dim=1) for other in others]).mean(0)
        return cls(
            float(js.mean()),
            float(distances.mean()),
            _interval(js, seen.seed, "js_divergence"),
            _interval(distances, seen.seed, "activation_distance"),
        )

    @property
    def value(self) -> float | None:
        """``js_divergence``."""
        return self.js

    @property
    def interval(self) -> Interval | None:
        """The interval of ``js_divergence``."""
        return self.figures["js_divergence"].interval

    @property
    def figures(self) -> Mapping[str, Measured]:
        """Both by name."""
        return {
            "js_divergence": Measured(self.js, _pair(self.js_interval)),
            "activation_distance": Measured(self.activation, _pair(self.activation_interval)),
        }


def js_divergences(first: Tensor, second: Tensor) -> Tensor:
    """Jensen-Shannon divergence of each pair of distributions, with natural logarithms.

    Parameters
    ----------
    first, second : Tensor of shape (n, classes), float64
        Probabilities of the classes for each sample.

    Returns
    -------
    Tensor of shape (n,)
        Divergence of each pair, from 0 to ln 2: the entropy of the mean minus the mean of the entropies.
    """
    entropies = [torch.special.entr(side).sum(1) for side in ((first + second) / 2, first, second)]
    divergences: Tensor = entropies[0] - (entropies[1] + entropies[2]) / 2
    return divergences.clamp_min(0.0)


def _interval(values: Tensor, seed: int, name: str) -> Interval:
    numbers = values.numpy()
    return bootstrap_interval(len(numbers), lambda chosen: float(numbers[chosen].mean()), seed=seed, name=name)


def _pair(values: tuple[float, ...]) -> Interval | None:
    return (values[0], values[1]) if values else None
