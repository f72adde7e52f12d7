"""Fingerprint test: do all figures of a model together tell it from retrained ones?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fed_unlearn.audits.measured import Measured
from fed_unlearn.audits.oracles.prediction import assumed_deviation
from fed_unlearn.audits.oracles.student import upper_tail

Numbers = NDArray[np.float64]

FURTHEST = 6.0
"""Standardised differences are cut off here, so that no single figure decides alone."""

PRIOR_FREEDOM = 4.0
"""Degrees of freedom that the deviations' prior counts for, beside n - 1 of the oracles'."""

_NORMAL_HALF = 1.959964  # half a 95 % interval, in standard deviations
_FEWEST = 2


@dataclass(frozen=True)
class Fingerprint:
    """How far a model's figures lie from those of oracles, beside how far the oracles lie from each other.

    Attributes
    ----------
    distance : float
        Root mean square of the model's standardised differences from the oracles; about 1 for one more oracle.
    oracle_distances : tuple of float
        Distance of each oracle from all other models, the audited one among them.
    p_value : float
        One-sided, of the model's log distance beside those of the oracles, by Student's t.
    rank_p_value : float
        Share of the models, the audited one among them, that lie at least as far out as it does. Exact where nothing
        is known of the figures, and never below 1 / (n + 1): with 3 oracles it cannot be below 0.25.
    figures : tuple of str
        The figures that count, the one that differs most first.
    """

    distance: float
    oracle_distances: tuple[float, ...]
    p_value: float
    rank_p_value: float
    figures: tuple[str, ...]

    @property
    def is_told_apart(self) -> bool:
        """Whether ``p_value`` is below 0.05."""
        return self.p_value < 0.05

    def to_json(self) -> dict[str, object]:
        """As JSON: the fields by name."""
        return {**vars(self), "oracle_distances": list(self.oracle_distances), "figures": list(self.figures)}


def fingerprint(model: Mapping[str, Measured], oracles: Sequence[Mapping[str, Measured]]) -> Fingerprint | None:
    """Try to tell a model from oracles by all figures that every one of them has.

    Each of the n + 1 models is measured from the n others: in every figure the difference from their mean, by their
    standard deviation times sqrt(1 + 1/n). With few oracles that deviation is itself a guess. It is shrunk towards a
    prior, as in moderated t statistics (Smyth, 2004): the deviation that the figure's own intervals imply, else 0.01
    or 5 % of the mean, times one factor that fits all figures. If the model is an oracle, the n + 1 distances are
    exchangeable, which the rank uses. ``p_value`` takes their logarithms to be normal besides, which is an
    approximation: a small one is evidence, a large one is none. Three oracles show only what lies far off.

    Parameters
    ----------
    model : mapping of str to Measured
    oracles : sequence of mapping of str to Measured
        Figures of each oracle by name, at least two oracles.

    Returns
    -------
    Fingerprint or None
        None with fewer oracles, or without a figure that all have.
    """
    models = [model, *oracles]
    names = [name for name in model if all(name in each and each[name].value is not None for each in models)]
    if len(oracles) < _FEWEST or not names:
        return None
    values = np.array([[each[name].value for name in names] for each in models], dtype=np.float64)
    units = _units([[each[name] for name in names] for each in models], values)
    differences = [
        _standardised(values[index], np.delete(values, index, axis=0), units) for index in range(len(models))
    ]
    distances = [float(np.sqrt(np.mean(item**2))) for item in differences]
    own, others = distances[0], distances[1:]
    order = np.argsort(-np.abs(differences[0]), kind="stable")
    return Fingerprint(
        distance=own,
        oracle_distances=tuple(others),
        p_value=_upper_tail(own, others),
        rank_p_value=sum(other >= own for other in distances) / len(distances),
        figures=tuple(names[index] for index in order),
    )


def _units(models: Sequence[Sequence[Measured]], values: Numbers) -> Numbers:
    """The deviation of each figure that its intervals imply, or that is assumed; the same for all models."""
    units = []
    for column, mean in zip(zip(*models, strict=True), values.mean(axis=0), strict=True):
        widths = [figure.interval[1] - figure.interval[0] for figure in column if figure.interval is not None]
        sampled = float(np.median(widths)) / 2 / _NORMAL_HALF if widths else 0.0
        units.append(sampled or assumed_deviation(float(mean)))
    return np.array(units)


def _standardised(value: Numbers, others: Numbers, units: Numbers) -> Numbers:
    freedom = len(others) - 1
    variances = others.var(axis=0, ddof=1) / units**2
    prior = float(np.mean(np.minimum(variances, np.median(variances) * 4 + 1e-12)))
    shrunk = (freedom * variances + PRIOR_FREEDOM * max(prior, 1e-3)) / (freedom + PRIOR_FREEDOM)
    scale = units * np.sqrt(shrunk * (1 + 1 / len(others)))
    differences: Numbers = np.clip((value - others.mean(axis=0)) / scale, -FURTHEST, FURTHEST)
    return differences


def _upper_tail(own: float, others: Sequence[float]) -> float:
    """Probability that one more distance is at least so large, by Student's t on logarithms."""
    logarithms = np.log(np.maximum(others, 1e-12))
    deviation = float(logarithms.std(ddof=1)) * math.sqrt(1 + 1 / len(others))
    statistic = (math.log(max(own, 1e-12)) - float(logarithms.mean())) / max(deviation, 1e-9)
    return upper_tail(statistic, len(others) - 1)
