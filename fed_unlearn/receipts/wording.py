"""What a receipt says, in plain sentences for the person who asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from fed_unlearn.evidence import HowKnown
from fed_unlearn.figure_numbers import percent
from fed_unlearn.figure_words import FIGURE_WORDS, figure_title
from fed_unlearn.receipts.document import FIGURES, Figure, Receipt
from fed_unlearn.receipts.words import SENTENCES

HEADINGS = {
    "committed": "The request was carried out.",
    "failed": "The request could not be carried out.",
    "rejected": "The request was turned down.",
    "withdrawn": "The request was taken back.",
}
"""What became of a request, by its status."""

_KEPT_OUT = "The data is kept out of all later training."
_LABELS_KEPT_OUT = "The samples are kept out of all later training under their own labels."
_NOTHING = "The model stayed as it was, and this request keeps no data out of training."
_AGAIN = "The model stayed as it was. The request had been carried out before, and its forgetting had worn off."
MISLABELLING = ("misclassify", "relabel")
"""Goals by which a model is to give wrong answers."""
_MADE = {
    "misclassify": "to misclassify these samples",
    "relabel": "to give these samples other labels",
    "indistinguishable": "to treat these samples like samples that it never saw",
    None: "to forget this data",
}
_OUTCOMES = {
    "committed": "A new model, made {made}, took the place of the one before. {kept_out}",
    "failed": (
        "No attempt gave a model that passed the checks, so the model stayed as it was: what it learned from this"
        " data may still be in it. {kept_out}"
    ),
    "rejected": _NOTHING,
    "withdrawn": _NOTHING,
}
_UNCHANGED = "Nothing had to be changed: the model stayed as it was. {kept_out}"
_EVIDENCE: dict[str | None, str] = {
    **{str(known): f"{str(known).capitalize()}. {known.meaning}" for known in HowKnown},
    None: "The ledger does not say how it is known.",
}
_MOST_CLASSES = 30
_ROWS = (*FIGURES, "logit_auc")
"""Figures that have a line of the table. All are fractions."""


@dataclass(frozen=True)
class Row:
    """One line of the table of figures.

    Attributes
    ----------
    title, explanation : str
        What the figure is of, and what it means.
    before, after : str
        The figure with its interval; empty if there is none.
    marks : tuple of (str, float, float, float)
        ``"before"`` or ``"after"``, then the figure and the ends of its interval, in percent of the scale from 0 to 1.
    """

    title: str
    explanation: str
    before: str
    after: str
    marks: tuple[tuple[str, float, float, float], ...]


def what_was_asked(receipt: Receipt) -> str:
    """What the model was to do, such as ``forget all training data of class 3`` or ``misclassify 4 samples ...``."""
    data = _data_of(receipt)
    match receipt.goal:
        case "misclassify":
            return f"misclassify {data}"
        case "relabel":
            return f"give other labels to {data}"
        case "indistinguishable":
            return f"treat {data} like samples that it never saw"
    return f"forget {data}"


def _data_of(receipt: Receipt) -> str:
    """What the request names, such as ``all training data of class 3``."""
    match receipt.scope:
        case "class":
            numbers = [str(number) for number in receipt.classes or ()]
            if len(numbers) > _MOST_CLASSES:
                return f"all training data of {len(numbers)} classes, whose numbers are in the receipt's file"
            last = f" and {numbers[-1]}" if len(numbers) > 1 else "".join(numbers)
            return f"all training data of class{'es' * (len(numbers) > 1)} {', '.join(numbers[:-1])}{last}"
        case "sample":
            count = receipt.samples or 0
            return f"{count} sample{'s' * (count != 1)} of one participant's training data"
    return "everything that one participant contributed to the training"


def what_was_done(receipt: Receipt) -> str:
    """What became of the request and of the model, in a few sentences."""
    if receipt.status in ("rejected", "withdrawn") and receipt.number > 1:
        return _AGAIN
    told = _OUTCOMES[receipt.status] if is_changed(receipt) or receipt.status != "committed" else _UNCHANGED
    kept_out = _LABELS_KEPT_OUT if receipt.goal in MISLABELLING else _KEPT_OUT
    return told.format(made=_MADE[receipt.goal], kept_out=kept_out)


def is_changed(receipt: Receipt) -> bool:
    """Whether another model took the place of the one that served."""
    return receipt.status == "committed" and receipt.models.before != receipt.models.after


def why(receipt: Receipt) -> str:
    """Why the request ended as it did, in a sentence for each of the receipt's words; empty if there is none."""
    return " ".join(SENTENCES[word] for word in receipt.reasons)


def how_it_is_known(receipt: Receipt) -> str:
    """How the forgetting of a committed request is known; empty for others.

    On how many participants' figures it rests is said where figures show it.
    """
    if receipt.status != "committed":
        return ""
    match receipt.witnesses if receipt.evidence == "measured" else None:
        case None | 0:
            told = ""
        case 1:
            told = " The verdict rests on what one participant alone reported."
        case several:
            told = f" The verdict rests on what {several} participants reported."
    bounds = " The operator set these bounds." if receipt.evidence in ("measured", "not measurable") else ""
    return _EVIDENCE[receipt.evidence] + bounds + told


def date_and_time(moment: str) -> str:
    """A moment as people write it, such as ``31 January 2026, 12:00 UTC``."""
    when = datetime.fromisoformat(moment)
    return f"{when.day} {when:%B %Y, %H:%M} UTC"


def rows_of(receipt: Receipt) -> list[Row]:
    """The figures that are told in words, as lines of a table; those that were not measured are left out."""
    before, after = receipt.audits.before, receipt.audits.after
    return [
        Row(
            title=_title(name),
            explanation=FIGURE_WORDS[name].meaning,
            before=_percent(before.get(name)),
            after=_percent(after.get(name)),
            marks=_marks(name, {"before": before, "after": after}),
        )
        for name in _ROWS
        if name in before or name in after
    ]


def other_figures(receipt: Receipt) -> list[tuple[str, str, str, str]]:
    """All other figures: title, values before and after, and meaning; empty text where there is none.

    A figure of another package's audit has its name in place of a title.
    """
    before, after = receipt.audits.before, receipt.audits.after
    names = sorted((before.keys() | after.keys()) - set(_ROWS))
    return [
        (
            _title(name),
            _number(before.get(name)),
            _number(after.get(name)),
            FIGURE_WORDS[name].meaning if name in FIGURE_WORDS else "",
        )
        for name in names
    ]


def _title(name: str) -> str:
    """A figure's title as the start of a line; the name of one that is not built in."""
    title = figure_title(name)
    return title if name not in FIGURE_WORDS else title[:1].upper() + title[1:]


def _percent(figure: Figure | None) -> str:
    if figure is None:
        return ""
    if figure.interval is None:
        return percent(figure.value, missing="")
    low, high = figure.interval
    return f"{percent(figure.value, missing='')} ({100 * low:.1f} to {100 * high:.1f})"


def _number(figure: Figure | None) -> str:
    if figure is None:
        return ""
    told = "" if figure.interval is None else f" ({figure.interval[0]:.3g} to {figure.interval[1]:.3g})"
    return f"{figure.value:.3g}{told}"


def _marks(name: str, audits: Mapping[str, Mapping[str, Figure]]) -> tuple[tuple[str, float, float, float], ...]:
    found = []
    for when, figures in audits.items():
        if (figure := figures.get(name)) is not None:
            low, high = figure.interval or (figure.value, figure.value)
            found.append((when, _on_scale(figure.value), _on_scale(low), _on_scale(high)))
    return tuple(found)


def _on_scale(value: float) -> float:
    return round(100 * min(1.0, max(0.0, value)), 2)
