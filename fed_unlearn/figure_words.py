"""What figures of audits and of the gate are, in a sentence each, for reports and receipts."""

from __future__ import annotations

FIGURE_WORDS = {
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
"""Figures that have no field of their own, by name. Other packages describe theirs themselves."""
