"""Bounds on the figures of any audit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Literal, get_args

from fed_unlearn.settings import Settings
from fed_unlearn.text import quoted

Reference = Literal["reset-rows", "oracle"]
"""``"reset-rows"``: classes that stay, each under a reset output row. ``"oracle"``: models retrained without D_f."""


@dataclass(frozen=True, kw_only=True)
class Bound(Settings, prefix="gate: "):
    """What one figure of an audit must be, by numbers or beside a reference; exactly one of both.

    A figure fails only where its whole 95 % interval lies beyond the bound: what chance explains is no failure. A
    figure without an interval fails by its value.

    Attributes
    ----------
    minimum, maximum : float or None
        Smallest and largest allowed value of the figure, in its own unit; None for no bound.
    beside : str or None
        ``"reset-rows"``: not over the 95 % prediction interval of classes that stay, each under a reset output row.
        ``"oracle"``: within the 95 % prediction interval of retrain oracles that were trained before the request is
        judged.
    needed : bool
        Whether a candidate is refused where the figure, or what it is held beside, was not measured.

    Examples
    --------
    >>> Bound(maximum=0.9)
    Bound(minimum=None, maximum=0.9, beside=None, needed=True)
    """

    minimum: float | None = None
    maximum: float | None = None
    beside: Reference | None = None
    needed: bool = True

    def _out_of_bounds(self) -> list[str]:
        ends = {"minimum": self.minimum, "maximum": self.maximum}
        given = {name: value for name, value in ends.items() if value is not None}
        problems = [
            f"gate: {name} = {quoted(value)}; expected a finite number or None"
            for name, value in given.items()
            if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value)
        ]
        if problems:
            return problems
        if self.beside is not None and self.beside not in get_args(Reference):
            names = " or ".join(map(quoted, get_args(Reference)))
            return [f"gate: beside = {quoted(self.beside)}; expected {names}, or None"]
        if bool(given) is (self.beside is not None):
            both = "both were" if given else "neither was"
            return [f"gate: {both} given of numbers and beside; expected a minimum, a maximum, or beside alone"]
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            return [f"gate: minimum {self.minimum:g} is over maximum {self.maximum:g}; expected at most as much"]
        return []


CLASS_FIGURES = {
    "recall_at_5": Bound(beside="reset-rows", needed=False),
    "recall_without_bias": Bound(maximum=0.05, needed=False),
}
"""Bounds on figures of class requests; they are looked at where they can be measured."""

ABOVE_REFERENCE = "above_reference"
SAMPLE_FIGURES = {ABOVE_REFERENCE: Bound(maximum=0.05, needed=False)}
"""Bounds on figures of samples that are to look unseen: of unseen samples themselves one in twenty stands above.

There is a figure only where the method read a reference.
"""
