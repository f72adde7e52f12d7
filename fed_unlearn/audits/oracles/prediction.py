"""Is a figure where that of one more oracle would be? Prediction intervals of the oracles' figures, and verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fed_unlearn.audits.measured import Measured
from fed_unlearn.audits.oracles.student import upper_quantile

Verdict = Literal["inside", "above", "below"]

FEWEST_FOR_CLAIMS = 3
"""Minimum number of oracles for a claim about a model."""

WIDEST = 4.0
"""Longest reach of an interval that is of use, in standard deviations to each side.

An interval that reaches further says little: it holds figures far from the mean.
"""

LEVEL = 0.95
"""Share of new oracles' figures that the interval holds."""

LEAST_DEVIATION, LEAST_SHARE = 0.01, 0.05
"""Standard deviation that is assumed where all oracles agree and none has an interval: absolute, and of their mean."""


@dataclass(frozen=True)
class Judgement:
    """Where a figure lies beside those of oracles.

    Attributes
    ----------
    predicted : (float, float)
        The 95 % prediction interval of the figure of one more oracle.
    allowed : (float, float)
        The predicted interval, widened by the error that the draw of samples leaves in this figure; the verdict is by
        this one.
    verdict : str
        ``"inside"``, ``"above"`` or ``"below"``. A figure below is a trace, too: no oracle would have it.
    oracles : int
        Number of oracles that have the figure.
    """

    predicted: tuple[float, float]
    allowed: tuple[float, float]
    verdict: Verdict
    oracles: int

    @property
    def is_outside(self) -> bool:
        """Whether the figure is above or below."""
        return self.verdict != "inside"

    def to_json(self) -> dict[str, object]:
        """As JSON: the fields by name."""
        return {**vars(self), "predicted": list(self.predicted), "allowed": list(self.allowed)}


def reach(count: int, freedom: int | None = None) -> float:
    """How far a 95 % prediction interval reaches to each side of the mean, in standard deviations: t sqrt(1 + 1/n).

    Parameters
    ----------
    count : int
        n, the number of values that the mean is of, at least 1.
    freedom : int, optional
        Degrees of freedom of the standard deviation, at least 1. By default n - 1, those of the same values.

    Examples
    --------
    >>> round(reach(2), 1), round(reach(3), 1), round(reach(3, 10), 1)
    (15.6, 5.0, 2.6)
    """
    return upper_quantile((1 - LEVEL) / 2, count - 1 if freedom is None else freedom) * math.sqrt(1 + 1 / count)


def prediction_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % prediction interval of one more value from the same normal distribution.

    The ends are mean +- t s sqrt(1 + 1/n), with t the 0.975 quantile of Student's distribution with n - 1 degrees of
    freedom and s the standard deviation (Hahn and Meeker, Statistical Intervals, 1991, section 4.7).

    Parameters
    ----------
    values : sequence of float

    Returns
    -------
    (float, float) or None
        None for fewer than two values.

    Examples
    --------
    >>> low, high = prediction_interval([0.85, 0.86, 0.87])
    >>> round(low, 4), round(high, 4)
    (0.8103, 0.9097)
    """
    if len(values) < 2:
        return None
    mean, half = _mean(values), reach(len(values)) * _deviation(values)
    return mean - half, mean + half


def judge(measured: Measured, oracles: Sequence[Measured]) -> Judgement | None:
    """Judge a figure beside the same figure of oracles.

    The ends of ``allowed`` lie sqrt(p² + e²) from the oracles' mean. Here p is the half-width of
    :func:`prediction_interval`, and e the error that the draw of samples leaves: the longer of two arms, that of the
    figure's own 95 % interval towards the oracles, and the mean of those of the oracles' intervals away from them.
    All models are measured on the same samples, so the error of the draw counts once. Where all oracles agree and no
    interval is known, the figure is saturated or counted in steps, and p is that of a standard deviation of 0.01 or of
    5 % of their mean, whichever is larger. A figure that equals that of every oracle is inside.

    Parameters
    ----------
    measured : Measured
        The figure of the model, which is none of the oracles.
    oracles : sequence of Measured
        The figure of each oracle. Those without a value do not count.

    Returns
    -------
    Judgement or None
        None where the model has no figure, or fewer than two oracles have one.
    """
    known = [oracle for oracle in oracles if oracle.value is not None]
    values = [oracle.value for oracle in known if oracle.value is not None]
    interval = prediction_interval(values)
    if measured.value is None or interval is None:
        return None
    mean, value = _mean(values), measured.value
    above, below = (_sampling_error(measured, known, direction) for direction in (1, -1))
    spread = reach(len(values)) * _deviation(values)
    if _agree(values):
        spread = 0.0 if above or below else reach(len(values)) * assumed_deviation(mean)
    allowed = mean - math.hypot(spread, below), mean + math.hypot(spread, above)
    is_outside = not (allowed[0] <= value <= allowed[1] or _agree((value, mean)))
    verdict: Verdict = "inside" if not is_outside else "above" if value > mean else "below"
    return Judgement(interval, allowed, verdict, len(values))


def judge_all(figures: Mapping[str, Measured], oracles: Sequence[Mapping[str, Measured]]) -> dict[str, Judgement]:
    """Judge every figure of a model that two oracles or more have.

    Parameters
    ----------
    figures : mapping of str to Measured
        Figures of the model, by name.
    oracles : sequence of mapping of str to Measured
        Figures of each oracle, by name. An oracle is judged by the others alone.
    """
    found = {
        name: judge(measured, [oracle[name] for oracle in oracles if name in oracle])
        for name, measured in figures.items()
    }
    return {name: judgement for name, judgement in found.items() if judgement is not None}


def assumed_deviation(mean: float) -> float:
    """Standard deviation that is assumed of a figure where all oracles have this one and no interval is known."""
    return max(LEAST_DEVIATION, LEAST_SHARE * abs(mean))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _deviation(values: Sequence[float]) -> float:
    mean = _mean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _agree(values: Sequence[float]) -> bool:
    """Whether all are equal but for rounding."""
    return all(math.isclose(value, values[0], rel_tol=1e-9, abs_tol=1e-12) for value in values)


def _sampling_error(measured: Measured, oracles: Sequence[Measured], direction: int) -> float:
    """The error of the draw for a figure that lies in a direction from the oracles: 1 above, -1 below."""
    others = [_arm(oracle, direction) for oracle in oracles]
    return max(_arm(measured, -direction), _mean(others))


def _arm(measured: Measured, direction: int) -> float:
    """Length of the interval from the value in a direction; 0 without an interval."""
    if measured.value is None or measured.interval is None:
        return 0.0
    low, high = measured.interval
    return max(0.0, high - measured.value if direction > 0 else measured.value - low)
