"""Offline LiRA: is one model surer of forgotten samples than models that never saw them? (Carlini et al., 2022)"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from torch import Tensor

from fed_unlearn.audits.base import AUDITS, CentralAudit, Measured, Observation
from fed_unlearn.audits.membership import exact_membership_auc, membership_auc_interval
from fed_unlearn.audits.oracles.student import upper_tail
from fed_unlearn.audits.samples.ratios import Gaussian, interval_over
from fed_unlearn.audits.samples.shadows import Shadows, sample_confidence
from fed_unlearn.requests import ScopeKind
from fed_unlearn.seeding import derive_seed

ALARM = 0.05
"""Chance that some sample counts as left, or as overdone, in a model that was retrained."""


def offline_distances(values: Tensor, retrained: Tensor) -> Tensor:
    """How far each sample's confidence lies above that of models without it.

    Parameters
    ----------
    values : Tensor of shape (n,), float64
        Confidences of the audited model.
    retrained : Tensor of shape (models, n), float64
        Confidences of models that were trained without the samples.

    Returns
    -------
    Tensor of shape (n,), float64
        Distance of each sample in units of the standard deviation of one more such model, ``s sqrt(1 + 1 / models)``:
        Student's t with ``models - 1`` degrees of freedom where the model is one of them, or nearer to 0, since the
        spread has a floor.
    """
    fit = Gaussian.of(retrained)
    return (values - fit.mean) / (fit.spread * math.sqrt(1 + 1 / len(retrained)))


def standing_out(distances: Tensor, models: int) -> int:
    """How many samples lie further above retrained models than chance allows.

    Parameters
    ----------
    distances : Tensor of shape (n,), float64
        Distances from :func:`offline_distances`.
    models : int
        Retrained models that they were measured by.
    """
    return sum(upper_tail(distance, models - 1) * len(distances) < ALARM for distance in distances.tolist())


@AUDITS.register("lira")
@dataclass(frozen=True)
class OfflineLira(CentralAudit):
    """One model beside shadow models that were retrained, sample by sample.

    It has no figures without shadow models. *Efficacy* and *privacy* are asked apart, as by Naderloui et al. (2025):

    - ``lira_distance`` (efficacy), for each group of samples: mean distance of the confidence from retrained models',
      in standard deviations of one of these. A retrained model has about 0.8.
    - ``lira_auc`` (privacy), for each group: the AUC by which these distances tell forgotten samples from test samples,
      which the model never saw. 0.5: an attacker with shadow models cannot.
    - ``loss_auc``, for each group: the same by the loss alone, without shadow models (Yeom et al., 2018). Memorised
      samples look unseen to it.
    - ``lira_left``: how many samples the model is surer of than retrained models are, where a retrained model has any
      in at most 5 % of requests (Student's t, Bonferroni over the samples).
    - ``lira_overdone``: how many it is less sure of, counted alike: they can be picked out too.
    """

    scopes: ClassVar[tuple[ScopeKind, ...]] = ("class", "sample")
    cost: ClassVar[str] = "nothing, once shadow models were trained"

    found: tuple[tuple[str, float, tuple[float, float] | None], ...] = ()

    @classmethod
    def count(cls, seen: Observation) -> Self:
        """Compare the model's confidences with those of the shadow models."""
        shadows = None if seen.central is None else seen.central.shadows
        if seen.central is None or shadows is None or not shadows.retrained.shape[1]:
            return cls()
        forget, test = (seen.central.readings.answers(part) for part in ("forget", "test_retain"))
        own = sample_confidence(forget.served, forget.labels)
        others = sample_confidence(test.served, test.labels)
        return cls(tuple(_figures(own, others, shadows, seen.seed)))

    @property
    def figures(self) -> Mapping[str, Measured]:
        """By name."""
        return {name: Measured(value, interval) for name, value, interval in self.found}

    @property
    def gate_figures(self) -> Mapping[str, Measured]:
        """Those that read no test sample."""
        return {name: each for name, each in self.figures.items() if "_auc" not in name}

    @property
    def value(self) -> float | None:
        """How many samples are left."""
        return next((value for name, value, _ in self.found if name == "lira_left"), None)


def _figures(
    own: Tensor, others: Tensor, shadows: Shadows, seed: int
) -> list[tuple[str, float, tuple[float, float] | None]]:
    distances = offline_distances(own, shadows.retrained)
    unseen = offline_distances(others, shadows.retrained_test)

    def mean_size(chosen: Tensor) -> float:
        return float(distances[chosen].abs().mean())

    found = list[tuple[str, float, tuple[float, float] | None]]()
    for suffix, group in shadows.groups().items():
        name = f"lira_distance{suffix}"
        found.append((name, mean_size(group), interval_over(group, mean_size, seed, name)))
        if not len(others):
            continue
        for name, inside, outside in (("lira_auc", distances[group], unseen), ("loss_auc", own[group], others)):
            random = np.random.default_rng(derive_seed(seed, "bootstrap", name + suffix))
            auc = exact_membership_auc(-inside, -outside)
            found.append((name + suffix, auc, membership_auc_interval(-inside, -outside, random)))
    for name, side in (("lira_left", distances), ("lira_overdone", -distances)):
        found.append((name, float(standing_out(side, len(shadows.retrained))), None))
    return found
