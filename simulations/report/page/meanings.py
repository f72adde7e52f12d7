"""What the figures of the audit tables are, in a sentence each."""

from __future__ import annotations

from collections.abc import Iterable

from fed_unlearn.figure_words import FIGURE_WORDS
from fed_unlearn.gate.figure_names import figure_sources
from fed_unlearn.simulations.report.method_details import plain, summary

FIELDS = (
    "forget_accuracy", "retain_accuracy", "test_forget_accuracy", "test_retain_accuracy", "membership_auc",
    "client_confidence", "staying_confidence",
)  # fmt: skip
"""Figures with a field of their own, in the order of the tables."""


def meanings_of(names: Iterable[str]) -> dict[str, str]:
    """What figures are, by name; those that nobody describes are left out.

    Parameters
    ----------
    names : iterable of str
        Names of figures, those of other packages' audits included. These are described by their audits.
    """
    wanted = list(names)
    sources = figure_sources() if any(name not in FIGURE_WORDS for name in wanted) else {}
    known = {name: plain(summary(sources[name].audit)) for name in wanted if name in sources}
    told = {**known, **{name: words.meaning for name, words in FIGURE_WORDS.items()}}
    return {name: told[name] for name in wanted if name in told}
