"""The first section of the page: how the run stands, and a sentence on every request, with its figures."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from fed_unlearn.evidence import HowKnown
from fed_unlearn.simulations.report.page.reading import Reading, joined
from fed_unlearn.simulations.report.page.sentence import figures_line, sentence_of, worn_off_look

_TONES = {"committed": "good", "failed": "bad", "rejected": "bad", "withdrawn": "open"}
_MARKS = {"good": "✓", "bad": "✕", "open": "◔"}
_ENDED = {"failed": "failed", "rejected": "rejected", "withdrawn": "withdrawn", "held": "held"}
MEANINGS = {str(known): known.meaning for known in HowKnown}
"""What it means that a forgetting is known in some way."""


@dataclass(frozen=True, kw_only=True)
class Headline:
    """How the run stands.

    Attributes
    ----------
    tone : str
        ``good``, ``bad`` or ``open``.
    mark : str
        A character for the tone, so that no reader depends on its colour.
    text : Markup
    notes : list of Markup
        What a reader must not miss besides.
    """

    tone: str
    mark: str
    text: Markup
    notes: list[Markup]


@dataclass(frozen=True, kw_only=True)
class RequestSummary:
    """What was asked, what was done, how well, and how it is known.

    Attributes
    ----------
    id, status, tone, mark : str
    sentence : Markup
        All of it in one sentence.
    figures : Markup
        The figures behind it, with intervals; empty where nothing was measured.
    has_worn_off : bool
        Whether the forgetting has worn off since.
    """

    id: str
    status: str
    tone: str
    mark: str
    sentence: Markup
    figures: Markup
    has_worn_off: bool


def headline(reading: Reading) -> Headline:
    """Say how the run stands."""
    requests, complete = reading.value("requests") or [], bool(reading.value("complete"))
    statuses = [request["status"] for request in requests]
    worn = [index for index in range(len(requests)) if worn_off_look(reading, index) is not None]
    if worn or any(_TONES.get(status) == "bad" for status in statuses):
        tone = "bad"
    else:
        tone = "good" if complete and all(status == "committed" for status in statuses) else "open"
    notes = []
    if worn:
        ids = joined([reading.text("requests", index, "id") for index in worn], ", ")
        notes.append(Markup("The forgetting of {} has worn off since: see Relapse.").format(ids))
    if not complete:
        notes.append(_waiting(statuses))
    if reading.value("training", "never_trained"):
        number = reading.count("training", "never_trained")
        notes.append(Markup("{} of the clients that were to train never did: see Clients.").format(number))
    if reading.value("relapse_due"):
        notes.append(Markup("Not every committed request could be audited again: see Relapse."))
    return Headline(tone=tone, mark=_MARKS[tone], text=_counts(reading, statuses), notes=notes)


def _waiting(statuses: list[str]) -> Markup:
    """What is said of a run that is not complete."""
    known = "the page shows what is known so far"
    if "held" in statuses:
        known = "a held request waits until somebody approves or withdraws it"
    return Markup("The run is not complete: {}.").format(known)


def _counts(reading: Reading, statuses: list[str]) -> Markup:
    total = reading.count("requests")
    if not statuses:
        return Markup("No request has been served.") if not reading.value("complete") else Markup("Nothing was asked.")
    if set(statuses) == {"committed"}:
        return Markup("{}request{} committed.").format(
            "The " if len(statuses) == 1 else Markup("All {} ").format(total),
            " was" if len(statuses) == 1 else "s were",
        )
    others = []
    for status in dict.fromkeys(status for status in statuses if status != "committed"):
        number = reading.count("requests", where=(("status",), status))
        others.append(Markup("{} {}").format(number, _ENDED.get(status, Markup("<span>{}</span>").format(status))))
    committed = reading.count("requests", where=(("status",), "committed"))
    return Markup("{} of {} request{} committed; {}.").format(
        committed, total, "" if len(statuses) == 1 else "s", joined(others, ", ")
    )


def request_summaries(reading: Reading) -> list[RequestSummary]:
    """A summary of every request, in the order of the results."""
    return [_summary(reading, index) for index in range(len(reading.value("requests") or ()))]


def _summary(reading: Reading, index: int) -> RequestSummary:
    request = reading.value("requests", index)
    has_worn_off = worn_off_look(reading, index) is not None
    tone = "bad" if has_worn_off else _TONES.get(request["status"], "open")
    return RequestSummary(
        id=request["id"],
        status=request["status"],
        tone=tone,
        mark=_MARKS[tone],
        sentence=sentence_of(reading, index),
        figures=figures_line(reading, index),
        has_worn_off=has_worn_off,
    )
