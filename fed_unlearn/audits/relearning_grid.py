"""Relearning: how fast forgotten classes come back, from how many samples, of which kind, and beside oracles."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean, stdev
from typing import ClassVar, Self

from fed_unlearn.audits.base import AUDITS, CentralAudit, Measured, Observation
from fed_unlearn.audits.oracles.student import upper_quantile
from fed_unlearn.audits.readings import Readings
from fed_unlearn.audits.relearning_cells import SHARES, Cell, GridSettings, Outcome, outcomes
from fed_unlearn.errors import EmptySetError
from fed_unlearn.requests import ScopeKind

MAIN = Cell("forget", None, draws=2)
"""Cell of all samples of the class. The steps to nine tenths are ``relearn_steps``, and their ratio to the oracles' is
``relearn_ratio``."""

GRID = (
    Cell("forget", 1, draws=2),
    Cell("forget", 10),
    Cell("forget", 50, draws=2),
    MAIN,
    Cell("retain", None, draws=1),
    Cell("mixed", 10, draws=2),
)
"""The cells that are measured. Other sizes of ``"mixed"`` and ``"retain"`` are left out, since each takes long."""


@AUDITS.register("relearning")
@dataclass(frozen=True)
class Relearning(CentralAudit):
    """Optimizer steps that bring the forgotten classes back, on copies that start from a fresh output row.

    The figures of a cell of the grid, such as 10 samples of the class (``relearn_10_forget``), are:

    - ``..._steps_50`` and ``..._steps_90``: steps to these shares of the original's recall on D_ft.
    - ``..._reached_50`` and ``..._reached_90``: share of draws that got there; the others count with the bound.
    - ``..._retain_accuracy`` and ``..._false_recall``: on D_rt, where training stopped.
    - ``..._recall`` and ``..._auc``: on D_ft (and D_rt) after the last step, for cells with a fixed number of steps.
    - ``..._ratio``: steps to nine tenths, divided by the oracles' mean, for cells of the class alone.

    With all samples of the class, the steps, the share of draws and the ratio are named ``relearn_steps``,
    ``relearn_reached`` and ``relearn_ratio``, and ``relearn_oracles_reached`` is the oracles' share. A ratio has no
    value where neither the model nor an oracle got there in any draw.

    A figure is the mean over draws of samples, batches and measured samples, which are the same for all models. The
    interval is Student's over the draws; no interval where a draw has not reached its target, since the bound is no
    measurement. A draw that diverges has reached nothing, and its shares are no part of the mean. Figures of a cell are
    left out where a class has fewer samples than it asks for.

    Attributes
    ----------
    found : tuple of (Cell, tuple of Outcome)
        Outcomes of the audited model, by cell.
    beside : tuple of (Cell, tuple of tuple of Outcome)
        Outcomes of the oracles, for the cells of the class alone.
    """

    scopes: ClassVar[tuple[ScopeKind, ...]] = ("class",)
    cost: ClassVar[str] = (
        "up to 120 steps on 32 samples for each draw of a cell, for the model and once for each oracle"
    )
    settings: ClassVar[GridSettings] = GridSettings()
    grid: ClassVar[tuple[Cell, ...]] = GRID

    found: tuple[tuple[Cell, tuple[Outcome, ...]], ...] = ()
    beside: tuple[tuple[Cell, tuple[tuple[Outcome, ...], ...]], ...] = ()

    @classmethod
    def count(cls, seen: Observation) -> Self:
        """Relearn with the model, and with oracles that have not relearned for another model before.

        Raises
        ------
        EmptySetError
            If the model before the request is not given, or a part of the test samples has no sample.
        InvalidDataError
            If the model before the request recognises none of the test samples of the classes.
        InvalidModelError
            If :func:`~fed_unlearn.audits.relearner.relearner` raises it.
        """
        central = seen.central
        if central is None or central.original is None:
            raise EmptySetError(
                "relearning: the model before the request is not there; its recall is the aim: give it as 'original'"
            )
        original = central.original

        def relearned(readings: Readings, cell: Cell) -> tuple[Outcome, ...]:
            key = ("relearning", cell, cls.settings, seen.seed)
            return readings.kept(key, lambda: outcomes(readings, original, cell, seed=seen.seed, settings=cls.settings))

        found = tuple((cell, relearned(central.readings, cell)) for cell in cls.grid)
        compared = tuple(cell for cell, drawn in found if drawn and cell.kind == "forget")
        beside = ((cell, tuple(relearned(oracle, cell) for oracle in central.oracles)) for cell in compared)
        return cls(found, tuple(beside))

    @property
    def value(self) -> float | None:
        """``relearn_steps``."""
        return self.figures["relearn_steps"].value if "relearn_steps" in self.figures else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval of ``relearn_steps``."""
        return self.figures["relearn_steps"].interval if "relearn_steps" in self.figures else None

    @property
    def figures(self) -> Mapping[str, Measured]:
        """All cells, in the order of the grid."""
        oracles = dict(self.beside)
        each = (_figures_of(cell, drawn, oracles.get(cell, ()), self.settings) for cell, drawn in self.found if drawn)
        return dict(chain.from_iterable(figures.items() for figures in each))

    @property
    def gate_figures(self) -> Mapping[str, Measured]:
        """None: recall is measured on test samples."""
        return {}


def _figures_of(
    cell: Cell, drawn: Sequence[Outcome], oracles: Sequence[Sequence[Outcome]], settings: GridSettings
) -> dict[str, Measured]:
    most = settings.max_steps if cell.stops_at_target else settings.fixed_steps
    figures: dict[str, Measured] = {}
    for index, share in enumerate(SHARES):
        reached = [outcome.reached[index] for outcome in drawn]
        steps = [outcome.steps[index] for outcome in drawn]
        figures[f"steps_{share:.0%}"] = mean_of_draws(steps, most) if all(reached) else Measured(fmean(steps))
        figures[f"reached_{share:.0%}"] = Measured(fmean(reached))
    for name in ("retain_accuracy", "false_recall", *(() if cell.stops_at_target else ("recall", "auc"))):
        shares = [share for outcome in drawn if (share := getattr(outcome, name)) is not None]
        figures[name] = mean_of_draws(shares, 1) if shares else Measured(None)
    if oracles:
        figures["ratio"] = ratio_of_draws(drawn, oracles)
        if cell.size is None:
            figures["oracles_reached"] = Measured(
                fmean(outcome.reached[-1] for outcome in chain.from_iterable(oracles))
            )
    return {_named(cell, name.rstrip("%")): measured for name, measured in figures.items()}


def _named(cell: Cell, figure: str) -> str:
    short = {"steps_90": "steps", "reached_90": "reached", "ratio": "ratio", "oracles_reached": "oracles_reached"}
    if cell.kind == "forget" and cell.size is None and figure in short:
        return f"relearn_{short[figure]}"
    return f"{cell.name}_{figure}"


def mean_of_draws(values: Sequence[float], most: float = math.inf) -> Measured:
    """Mean over draws, and Student's interval of it within [0, ``most``]; no interval for one draw."""
    value = fmean(values)
    if len(values) < 2:
        return Measured(value)
    half = _half_width(values)
    return Measured(value, (max(0.0, value - half), min(most, value + half)))


def ratio_of_draws(drawn: Sequence[Outcome], oracles: Sequence[Sequence[Outcome]]) -> Measured:
    """Steps to nine tenths, divided by the oracles' mean steps, both over all draws.

    Parameters
    ----------
    drawn : sequence of Outcome
        Outcomes of the audited model, one for each draw.
    oracles : sequence of sequence of Outcome
        Outcomes of each oracle, one for each draw. The draws are those of the model.

    Returns
    -------
    Measured
        The interval is Student's over the ratios of single draws, around the value. No value where nobody got there in
        any draw, or the oracles needed no step; no interval where somebody did not get there in a draw.
    """
    every = [*drawn, *chain.from_iterable(oracles)]
    means = [
        fmean(outcome.steps[-1] for outcome in outcomes_of_draw) for outcomes_of_draw in zip(*oracles, strict=True)
    ]
    if not any(outcome.reached[-1] for outcome in every) or not all(means):
        return Measured(None)
    value = fmean(outcome.steps[-1] for outcome in drawn) / fmean(means)
    if len(drawn) < 2 or not all(outcome.reached[-1] for outcome in every):
        return Measured(value)
    half = _half_width([outcome.steps[-1] / mean for outcome, mean in zip(drawn, means, strict=True)])
    return Measured(value, (max(0.0, value - half), value + half))


def _half_width(values: Iterable[float]) -> float:
    values = list(values)
    return upper_quantile(0.025, len(values) - 1) * stdev(values) / math.sqrt(len(values))
