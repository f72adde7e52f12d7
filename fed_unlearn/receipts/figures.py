"""The figures that a receipt tells, out of what the ledger keeps of a request's end."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from fed_unlearn.figure_numbers import finite_number
from fed_unlearn.ledger.endings import Ending
from fed_unlearn.receipts.document import FIGURES, Figure
from fed_unlearn.receipts.names import holds_a_name

_MOST_FIGURES = 64
_FIGURE_NAME = re.compile("[a-z][a-z0-9_]{0,99}")
_LEFT_OUT = frozenset({"client_confidence", "staying_confidence"})
"""Figures of single clients, which no receipt holds."""


def figures_in(body: object, names: Iterable[str]) -> dict[str, Figure]:
    """The figures of an outcome: the common ones, and others by name; those without a finite value are left out.

    Parameters
    ----------
    body : mapping of str, or None
        Figures of one model, as the ledger has them.
    names : iterable of str
        Names that must not be told: a figure whose name holds one is left out, unless it is a common one.
    """
    if not isinstance(body, Mapping):
        return {}
    extra, intervals = body.get("extra"), body.get("intervals")
    others = sorted(extra) if isinstance(extra, Mapping) else []
    found: dict[str, Figure] = {}
    for name in (*FIGURES, *others):
        value = finite_number(
            body.get(name) if name in FIGURES else extra.get(name) if isinstance(extra, Mapping) else None
        )
        is_named = _FIGURE_NAME.fullmatch(name) and (name in FIGURES or not holds_a_name(name, names))
        if value is None or not is_named or len(found) >= _MOST_FIGURES:
            continue
        found[name] = Figure(value=value, interval=_interval(intervals, name))
    return found


def _interval(intervals: object, name: str) -> tuple[float, float] | None:
    pair = intervals.get(name) if isinstance(intervals, Mapping) else None
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        return None
    low, high = finite_number(pair[0]), finite_number(pair[1])
    return None if low is None or high is None else (low, high)


def figures_of_events(ending: Ending) -> dict[str, Any]:
    """The figures after a request that its events hold, as an outcome has them."""
    return {
        **ending.accepted,
        "extra": {name: ending.accepted[name] for name in ending.accepted if name not in _LEFT_OUT},
    }
