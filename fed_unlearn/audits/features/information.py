"""Information Difference Index of Jeon et al., "An Information Theoretic Evaluation Metric for Strong Unlearning"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from fed_unlearn.audits.base import AUDITS, CentralAudit, Observation
from fed_unlearn.audits.features.activations import layer_inputs
from fed_unlearn.audits.features.critic import judged_information
from fed_unlearn.audits.features.frozen import central_of, drawn, frozen
from fed_unlearn.audits.intervals import QUANTILE, RESAMPLES
from fed_unlearn.audits.readings import PartName, Readings
from fed_unlearn.requests import ScopeKind
from fed_unlearn.seeding import derive_seed, seeded_generator

MOST_SAMPLES = 500
"""Maximum number of samples of each of the four parts that are read."""

HIDDEN_LAYERS = 2
"""Number of hidden layers that take part: the last ones before the penultimate features."""

_MOST_SIDE = 2
_PARTS: tuple[PartName, ...] = ("retain", "forget", "test_retain", "test_forget")


@AUDITS.register("information_difference")
@dataclass(frozen=True)
class InformationDifference(CentralAudit):
    """How much of what the original's layers tell of the forgotten classes is left: 0 as retrained, 1 all of it.

    For each layer, the mutual information between its features and the label "forgotten or not", both labels as
    frequent, is bounded by InfoNCE with a small critic (arXiv 2405.17878): the index is the sum over
    layers of the model's information minus the oracles', divided by the same of the original. Below 0: less is left
    than after retraining.

    Unlike the paper's, the critic is one small network for every layer and not the model's own later layers, features
    are pooled to 2 x 2 places, and critics are trained on samples of D_f and D_r and judged on D_ft and D_rt. The
    layers are the last two hidden ones and the penultimate features.

    Attributes
    ----------
    index : tuple of float
        The index, and the ends of its interval; empty without an original or an oracle, or where the original tells no
        more than the oracles but for chance.
    """

    scopes: ClassVar[tuple[ScopeKind, ...]] = ("class",)
    cost: ClassVar[str] = "reading at most 2,000 samples once more, and three small critics"

    index: tuple[float, ...] = ()

    @classmethod
    def count(cls, seen: Observation) -> Self:
        """Compare with the original and the oracles.

        Raises
        ------
        EmptySetError
            If one of the four parts has no sample.
        InvalidModelError
            If a feature is not a finite number.
        """
        central = central_of(cls.name, seen)
        if central.original is None or not central.oracles:
            return cls()
        unlearned, original, *oracles = (
            layer_information(one, seen.seed) for one in (central.readings, central.original, *central.oracles)
        )
        shared = [name for name in unlearned if all(name in others for others in (original, *oracles))]
        retrained = {name: torch.stack([oracle[name] for oracle in oracles]).mean(0) for name in shared}
        left, whole = (
            torch.stack([of_model[name] - retrained[name] for name in shared]).sum(0)
            for of_model in (unlearned, original)
        )
        of_retained = min(len(central.data.parts["test_retain"]), MOST_SAMPLES)
        return cls(index_of(left, whole, of_retained, seed=seen.seed))

    @property
    def value(self) -> float | None:
        """The index."""
        return self.index[0] if self.index else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Its 95 % interval over test samples; the oracles' and the critics' own scatter is not in it."""
        return (self.index[1], self.index[2]) if self.index else None


def layer_information(readings: Readings, seed: int) -> dict[str, Tensor]:
    """What critics of each layer get from each of the judged samples, retained ones first; computed once a model."""

    def compute() -> dict[str, Tensor]:
        layers = [_layers(readings, part, seed) for part in _PARTS]
        return {
            name: judged_information(
                (layers[0][name], layers[1][name]),
                (layers[2][name], layers[3][name]),
                seeded_generator(seed, "information difference", "critic", name),
            )
            for name in layers[0]
        }

    return readings.kept(("information by layer", seed), compute)


def index_of(left: Tensor, whole: Tensor, of_retained: int, *, seed: int) -> tuple[float, ...]:
    """The index with its percentile bootstrap interval.

    Parameters
    ----------
    left, whole : Tensor of shape (n,), float64
        How much more the layers of the unlearned model (``left``) and of the original (``whole``) tell of each sample
        than the oracles' layers do, in nats.
    of_retained : int
        Number of retained samples, which come first; the others are forgotten. Both sides weigh the same.
    seed : int
        Seed of the bootstrap resamples.

    Returns
    -------
    tuple of three float, or of none
        The index and both ends of its interval; empty where ``whole`` is not over 0 by more than chance explains, at
        95 %.
    """
    pairs = [
        torch.stack(side).numpy() for side in zip(*(v.tensor_split([of_retained]) for v in (left, whole)), strict=True)
    ]
    top, bottom = sum(side.mean(1) for side in pairs) / 2
    error = np.sqrt(sum(side[1].var() / side.shape[1] for side in pairs)) / 2
    if bottom <= QUANTILE * error:
        return ()
    random = np.random.default_rng(derive_seed(seed, "information difference", "resamples"))
    ratios = []
    for _ in range(RESAMPLES):
        tops, bottoms = sum(side[:, random.integers(side.shape[1], size=side.shape[1])].mean(1) for side in pairs)
        ratios.append(tops / bottoms)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(top / bottom), float(low), float(high)


def _layers(readings: Readings, part: PartName, seed: int) -> dict[str, Tensor]:
    """The last hidden layers by name, and the penultimate features, of a sample of one part."""
    whole = frozen(InformationDifference.name, readings, part)
    chosen = drawn(len(whole), MOST_SAMPLES, seed, InformationDifference.name, part)
    samples = readings.data.parts[part]
    hidden = layer_inputs(readings, samples.subset(chosen.to(samples.labels.device)), most_side=_MOST_SIDE)
    last = list(hidden)[-HIDDEN_LAYERS:]
    return {**{name: hidden[name] for name in last}, "penultimate features": whole.features[chosen].float()}
