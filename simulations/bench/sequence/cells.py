"""Counts the figures that lie where those of one more oracle would, with a spread that is pooled over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fed_unlearn.audits.oracles.prediction import reach


@dataclass(frozen=True, kw_only=True)
class FigureCell:
    """One figure of one earlier request after one event of one seed.

    Attributes
    ----------
    seed : int
    event, request, figure : str
        The event is the id of a request or a training such as ``train:2``.
    oracles : tuple of float
        Values of oracles that were retrained without all that was forgotten by then.
    models : mapping of str to float
        Values of other models, by name. A model for which there is nothing to measure is not in it.
    """

    seed: int
    event: str
    request: str
    figure: str
    oracles: tuple[float, ...]
    models: Mapping[str, float]


@dataclass(frozen=True)
class Count:
    """How many cells are inside.

    Attributes
    ----------
    inside, cells : int
    """

    inside: int
    cells: int

    @property
    def share(self) -> float | None:
        """The share; None where there are no cells."""
        return self.inside / self.cells if self.cells else None


def pooled_interval(values: Sequence[float], others: Iterable[Sequence[float]] = ()) -> tuple[float, float] | None:
    """95 % prediction interval of one more value, with a standard deviation that is pooled with other groups.

    The ends are mean +- t s sqrt(1 + 1/n) of the n values. The sums of squares about each group's own mean give s, and
    the degrees of freedom of t are those of all groups together.

    Parameters
    ----------
    values : sequence of float
        Values of the group, at least one.
    others : iterable of sequence of float
        Groups that have means of their own and the same spread.

    Returns
    -------
    (float, float) or None
        None where no group has two values.

    Examples
    --------
    >>> low, high = pooled_interval([1.0, 3.0], [[5.0, 7.0], [0.0, 2.0]])
    >>> round(low, 3), round(high, 3)  # 3 degrees of freedom, s = sqrt(2), t = 3.182
    (-3.512, 7.512)
    """
    groups = [group for group in (values, *others) if group]
    freedom = sum(len(group) - 1 for group in groups)
    if not freedom:
        return None
    means = [math.fsum(group) / len(group) for group in groups]
    squares = ((value - mean) ** 2 for group, mean in zip(groups, means, strict=True) for value in group)
    half = reach(len(values), freedom) * math.sqrt(math.fsum(squares) / freedom)
    return means[0] - half, means[0] + half


def count_inside(cells: Sequence[FigureCell], model: str) -> Count:
    """Count the cells in which a model lies inside the interval of the oracles.

    Parameters
    ----------
    cells : sequence of FigureCell
        Cells of all seeds. Those without the model do not count, but their oracles do.
    model : str
    """
    groups = _by_place(cells)
    found = [
        _is_inside(cell.models[model], pooled_interval(cell.oracles, _of_others(groups, cell)))
        for cell in cells
        if model in cell.models
    ]
    return _counted(found)


def count_left_out(cells: Sequence[FigureCell]) -> Count:
    """Count the cells in which an oracle lies inside the interval of the others, each oracle left out once.

    The oracles of other seeds are all part of the pooled spread.
    """
    groups = _by_place(cells)
    found = []
    for cell in cells:
        for index, value in enumerate(cell.oracles):
            rest = cell.oracles[:index] + cell.oracles[index + 1 :]
            if rest:
                found.append(_is_inside(value, pooled_interval(rest, _of_others(groups, cell))))
    return _counted(found)


def _by_place(cells: Sequence[FigureCell]) -> dict[tuple[str, str, str], list[FigureCell]]:
    """The cells of all seeds by event, request and figure."""
    groups: dict[tuple[str, str, str], list[FigureCell]] = {}
    for cell in cells:
        groups.setdefault((cell.event, cell.request, cell.figure), []).append(cell)
    return groups


def _of_others(groups: Mapping[tuple[str, str, str], Sequence[FigureCell]], cell: FigureCell) -> list[Sequence[float]]:
    alike = groups[cell.event, cell.request, cell.figure]
    return [other.oracles for other in alike if other is not cell]


def _is_inside(value: float, interval: tuple[float, float] | None) -> bool | None:
    """Whether a value is inside but for rounding; None without an interval."""
    if interval is None:
        return None
    low, high = interval
    return low - 1e-9 <= value <= high + 1e-9


def _counted(found: Sequence[bool | None]) -> Count:
    judged = [is_inside for is_inside in found if is_inside is not None]
    return Count(sum(judged), len(judged))
