"""What figures of audits and of the gate are, in words that reports, comparisons and receipts share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FigureWords:
    """What one figure is.

    Attributes
    ----------
    title : str
        A few words that begin in lower case and name no technique, as far as there is one.
    meaning : str
        A sentence or two. They are true of every kind of request that has the figure.
    """

    title: str
    meaning: str


FIGURE_WORDS = {
    "forget_accuracy": FigureWords(
        "accuracy on the data of the request",
        "Share of right answers on the training samples of the request.",
    ),
    "retain_accuracy": FigureWords(
        "accuracy on the training data that stays",
        "Share of right answers on the training samples that stay.",
    ),
    "test_forget_accuracy": FigureWords(
        "accuracy on test data of the request's classes",
        "Share of right answers on the test samples of the request's classes.",
    ),
    "test_retain_accuracy": FigureWords(
        "accuracy on all other test data",
        "Share of right answers on all other test samples; classes that were forgotten before are left out.",
    ),
    "membership_auc": FigureWords(
        "test for traces (membership attack)",
        "How well an attack tells the request's samples from unseen test samples, by how sure the model is of each:"
        " 50 % (0.5) is a mere guess, and 0 % and 100 % tell them apart entirely.",
    ),
    "validation_membership_auc": FigureWords(
        "test for traces that the gate judges by",
        "The membership attack's AUC against validation samples that no method reads, in place of test samples.",
    ),
    "client_confidence": FigureWords(
        "how sure the model is of the client's samples",
        "How much surer the model is of the client's samples than of unseen ones, in mean log-odds.",
    ),
    "staying_confidence": FigureWords(
        "how sure the model is of the samples of clients that stay",
        "How much surer the model is of these than of unseen ones, in mean log-odds.",
    ),
    "forget_excess": FigureWords(
        "accuracy on the data of the request over that on unseen data",
        "Accuracy on the training samples of the request, less that on unseen samples of their classes.",
    ),
    "retain_drop": FigureWords(
        "accuracy lost since the last accepted model",
        "How far validation accuracy on what stays fell against the last accepted model.",
    ),
    "total_retain_drop": FigureWords(
        "accuracy lost since the first request",
        "How far validation accuracy on what stays fell against the model before the first request.",
    ),
    "above_reference": FigureWords(
        "share of the samples that look known",
        "Share of the samples that the model is surer of than of nineteen in twenty unseen ones.",
    ),
    "backdoor_success": FigureWords(
        "how often the client's trigger works",
        "Share of test samples with the client's trigger that the model calls the client's target.",
    ),
    "client_membership_auc": FigureWords(
        "test for traces, class by class",
        "The membership attack's AUC within each class, averaged over the client's classes.",
    ),
    "confidence_gap": FigureWords(
        "confidence beside unseen data",
        "Mean of the largest probability among staying classes: of the forgotten samples, less that of unseen ones of"
        " classes that stay.",
    ),
    "destination_entropy": FigureWords(
        "how evenly the class goes to others",
        "How evenly the class's samples are spread over the staying classes: one where evenly.",
    ),
    "destination_top": FigureWords(
        "share of the class that goes to one other",
        "Share of the class's samples that go to the staying class that takes most of them.",
    ),
    "entropy_gap": FigureWords(
        "uncertainty beside unseen data",
        "Mean entropy in nats over the staying classes: of the forgotten samples, less that of unseen ones of classes"
        " that stay.",
    ),
    "logit_auc": FigureWords(
        "how well the class's hidden score tells it apart",
        "How well the class's own score still ranks its samples above others, whatever its bias. A model that never saw"
        " the class can rank them, too.",
    ),
    "recall_at_5": FigureWords(
        "hidden recall of the class",
        "Recall of the class if its bias were shifted until one staying sample in twenty were taken for it.",
    ),
    "recall_without_bias": FigureWords(
        "recall of the class without its bias",
        "Share of the class's samples that the class's own output puts first without its bias.",
    ),
    "reset_rows_logit_auc": FigureWords(
        "hidden score of other classes, for comparison",
        "The logit AUC of classes that stay, each under a reset output row: a reference.",
    ),
    "reset_rows_recall_at_5": FigureWords(
        "hidden recall of other classes, for comparison",
        "The recall at five per cent of classes that stay, each under a reset output row: a reference.",
    ),
}
"""The built-in figures, by name. Other packages describe theirs themselves."""


def figure_title(name: str) -> str:
    """A few words for a figure: its title, or the name of a figure that is not built in.

    Parameters
    ----------
    name : str

    Examples
    --------
    >>> figure_title("logit_auc"), figure_title("their_own")
    ("how well the class's hidden score tells it apart", 'their_own')
    """
    words = FIGURE_WORDS.get(name)
    return name if words is None else words.title
