"""Which figures without a field of their own a table shows; results hold all of them."""

from __future__ import annotations

from collections.abc import Iterable

from fed_unlearn.audits.asked import built_in_figures
from fed_unlearn.audits.base import Figures, extra_names
from fed_unlearn.simulations.report.layout import heading_of

IN_TABLES = ("logit_auc",)
"""Figures of built-in audits that tables show."""


def shown_names(several: Iterable[Figures | None]) -> list[str]:
    """Names of the figures that some of these have and tables show: those of other packages, and few of our own."""
    return shown_of(extra_names(several))


def shown_of(names: Iterable[str]) -> list[str]:
    """As :func:`shown_names`, of the names themselves; sorted."""
    left_out = built_in_figures() - set(IN_TABLES)
    return sorted(set(names) - left_out)


def headings_of(names: Iterable[str]) -> list[str]:
    """Column headings of figures, a word a line."""
    return [heading_of(name).replace("auc", "AUC") if name in IN_TABLES else heading_of(name) for name in names]
