"""What the figures of the audit tables are, in a sentence each."""

from __future__ import annotations

from collections.abc import Iterable

from fed_unlearn.figure_words import FIGURE_WORDS
from fed_unlearn.gate.figure_names import figure_sources
from fed_unlearn.simulations.report.method_details import plain, summary

FIELDS = {
    "forget_accuracy": "Accuracy on the training samples to be forgotten.",
    "retain_accuracy": "Accuracy on the training samples that stay.",
    "test_forget_accuracy": "Accuracy on test images of the forgotten classes.",
    "test_retain_accuracy": "Accuracy on test images of all other classes.",
    "membership_auc": "Area under the ROC curve of the membership attack. At a half it cannot tell the samples from"
    " unseen ones.",
    "client_confidence": "How much surer the model is of the client's samples than of unseen ones, in mean log-odds.",
    "staying_confidence": "The same of the samples of clients that stay.",
}
"""Figures with a field of their own, in the order of the tables."""


def meanings_of(names: Iterable[str]) -> dict[str, str]:
    """What figures are, by name; those that nobody describes are left out.

    Parameters
    ----------
    names : iterable of str
        Names of figures, those of other packages' audits included. These are described by their audits.
    """
    wanted = list(names)
    sources = figure_sources() if any(name not in FIELDS and name not in FIGURE_WORDS for name in wanted) else {}
    known = {name: plain(summary(sources[name].audit)) for name in wanted if name in sources}
    told = {**known, **FIGURE_WORDS, **FIELDS}
    return {name: told[name] for name in wanted if name in told}
