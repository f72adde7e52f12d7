"""Linear CKA (Kornblith et al., 2019) to retrain oracles, layer by layer: do features lie as if never trained on?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from fed_unlearn.audits.base import AUDITS, CentralAudit, Measured, Observation
from fed_unlearn.audits.features.activations import layer_inputs
from fed_unlearn.audits.features.frozen import central_of, drawn, frozen
from fed_unlearn.audits.oracles.student import upper_quantile
from fed_unlearn.audits.readings import PartName, Readings
from fed_unlearn.requests import ScopeKind

MOST_SAMPLES = 500
FEWEST_SAMPLES = 30
"""The figure of fewer samples is near 1 for any two models: it is left out."""

_MOST_SIDE = 8
GROUPS = 10


@AUDITS.register("alignment")
@dataclass(frozen=True)
class Alignment(CentralAudit):
    """Linear CKA between the model's and the oracles' layers on at most 500 samples of D_ft, averaged over oracles.

    1 means that the features of the samples lie alike, but for a rotation and a scale. Two oracles are not at 1 to each
    other: compare the figures with those of an oracle.

    Attributes
    ----------
    layers : tuple of float
        CKA of each hidden layer, from the input on, and then of the penultimate features. Each value is followed by
        those without the first tenth of the samples, without the second, and so on.
    retained : tuple of float
        CKA of the penultimate features on samples of D_rt, given in the same way.
    """

    scopes: ClassVar[tuple[ScopeKind, ...]] = ("class",)
    cost: ClassVar[str] = "reading 500 samples once more"

    layers: tuple[float, ...] = ()
    retained: tuple[float, ...] = ()

    @classmethod
    def count(cls, seen: Observation) -> Self:
        """Compare with every oracle; nothing where there is none, or D_ft has fewer than 30 samples.

        Raises
        ------
        InvalidModelError
            If a feature is not a finite number.
        """
        central = central_of(cls.name, seen)
        if not central.oracles or len(central.data.parts["test_forget"]) < FEWEST_SAMPLES:
            return cls()
        every = (central.readings, *central.oracles)
        grams = [hidden_grams(readings, seen.seed) for readings in every]
        shared = [name for name in grams[0] if all(name in others for others in grams[1:])]
        pairs = [[of_model[name] for of_model in grams] for name in shared]
        pairs.append([features_gram(readings, "test_forget", seen.seed) for readings in every])
        retained: tuple[float, ...] = ()
        if len(central.data.parts["test_retain"]) >= FEWEST_SAMPLES:
            retained = _with_tenths_left_out([features_gram(readings, "test_retain", seen.seed) for readings in every])
        return cls(tuple(value for pair in pairs for value in _with_tenths_left_out(pair)), retained)

    @property
    def figures(self) -> Mapping[str, Measured]:
        """``cka_1`` and so on by depth, ``cka_features`` of the penultimate features, ``cka_retained`` of D_rt.

        None where there is no oracle.
        """
        rows = [self.layers[start : start + GROUPS + 1] for start in range(0, len(self.layers), GROUPS + 1)]
        hidden = {f"cka_{depth}": _measured(row) for depth, row in enumerate(rows[:-1], 1)}
        return hidden | {
            "cka_features": _measured(rows[-1] if rows else ()),
            "cka_retained": _measured(self.retained),
        }

    @property
    def value(self) -> float | None:
        """The CKA of the penultimate features."""
        return self.figures["cka_features"].value


def linear_cka(first: Tensor, second: Tensor) -> float:
    """Linear CKA of two sets of features of the same samples, from their Gram matrices.

    Parameters
    ----------
    first, second : Tensor of shape (n, n), float64
        Products of every two samples' features; centred here.

    Returns
    -------
    float
        The CKA, in [0, 1]; not a number where all samples have the same features.
    """
    one, other = (gram - gram.mean(0) - gram.mean(1, keepdim=True) + gram.mean() for gram in (first, second))
    return float((one * other).sum() / (one.norm() * other.norm()))


def hidden_grams(readings: Readings, seed: int) -> dict[str, Tensor]:
    """Gram matrices of what hidden layers put out for a sample of D_ft, by layer; computed once a model."""

    def compute() -> dict[str, Tensor]:
        samples = readings.data.parts["test_forget"]
        chosen = samples.subset(_chosen(len(samples), "test_forget", seed).to(samples.labels.device))
        return {name: _gram(values) for name, values in layer_inputs(readings, chosen, most_side=_MOST_SIDE).items()}

    return readings.kept(("hidden grams", seed), compute)


def features_gram(readings: Readings, part: PartName, seed: int) -> Tensor:
    """Gram matrix of the penultimate features of a sample of one part."""
    whole = frozen(Alignment.name, readings, part)
    return _gram(whole.features[_chosen(len(whole), part, seed)])


def _chosen(count: int, part: PartName, seed: int) -> Tensor:
    return drawn(count, MOST_SAMPLES, seed, Alignment.name, part)


def _gram(features: Tensor) -> Tensor:
    # Centred before the product: a mean far from 0 would cost digits.
    centred = features.double() - features.double().mean(0)
    return centred @ centred.T


def _with_tenths_left_out(grams: Sequence[Tensor]) -> tuple[float, ...]:
    """Mean CKA of the first with the others; then the same without each tenth of the samples."""
    count = len(grams[0])
    left_out = torch.arange(count) * GROUPS // count
    found = []
    for group in range(-1, GROUPS):
        kept = (left_out != group).nonzero().flatten()
        mine, *others = (gram[kept][:, kept] for gram in grams)
        found.append(sum(linear_cka(mine, other) for other in others) / len(others))
    return tuple(found)


def _measured(row: Sequence[float]) -> Measured:
    """The figure with the interval of the jackknife over tenths, by Student's t."""
    if not row:
        return Measured(None)
    value, *tenths = row
    mean = sum(tenths) / GROUPS
    variance = (GROUPS - 1) / GROUPS * sum((tenth - mean) ** 2 for tenth in tenths)
    half = upper_quantile(0.025, GROUPS - 1) * math.sqrt(variance)
    return Measured(value, (max(0.0, value - half), min(1.0, value + half)))
