"""What the figures of the audit tables are, in a sentence each."""

from __future__ import annotations

from collections.abc import Iterable

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

_OTHERS = {
    "forget_excess": "Accuracy on the training samples to be forgotten, less that on unseen samples of their classes.",
    "retain_drop": "How far validation accuracy on what stays fell against the last accepted model.",
    "total_retain_drop": "How far validation accuracy on what stays fell against the model before the first request.",
    "above_reference": "Share of the samples that the model is surer of than of nineteen in twenty unseen ones.",
    "backdoor_success": "Share of test images with the client's trigger that the model calls the client's target.",
    "client_membership_auc": "The membership attack's AUC within each class, averaged over the client's classes.",
    "confidence_gap": "Mean of the largest probability among staying classes: of the forgotten samples, less that of"
    " unseen ones of classes that stay.",
    "destination_entropy": "How evenly the class's images are spread over the staying classes: one where evenly.",
    "destination_top": "Share of the class's images that go to the staying class that takes most of them.",
    "entropy_gap": "Mean entropy in nats over the staying classes: of the forgotten samples, less that of unseen ones"
    " of classes that stay.",
    "logit_auc": "How well the class's own score still ranks its images above others, whatever its bias. A model that"
    " never saw the class ranks them, too: compare with the oracle.",
    "recall_at_5": "Recall of the class if its bias were shifted until one staying image in twenty were taken for it.",
    "recall_without_bias": "Share of the forgotten samples that the class's own output puts first without its bias.",
    "reset_rows_logit_auc": "The logit AUC of classes that stay, each under a reset output row: a reference.",
    "reset_rows_recall_at_5": "The recall at five per cent of classes that stay, each under a reset output row.",
}


def meanings_of(names: Iterable[str]) -> dict[str, str]:
    """What figures are, by name; those that nobody describes are left out.

    Parameters
    ----------
    names : iterable of str
        Names of figures, those of other packages' audits included. These are described by their audits.
    """
    wanted = list(names)
    sources = figure_sources() if any(name not in FIELDS and name not in _OTHERS for name in wanted) else {}
    known = {name: plain(summary(sources[name].audit)) for name in wanted if name in sources}
    return {name: {**known, **_OTHERS, **FIELDS}[name] for name in wanted if name in known | _OTHERS | FIELDS}
