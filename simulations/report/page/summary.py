"""The first section of the page: how the run stands, and a few sentences on every request."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from fed_unlearn.evidence import HowKnown
from fed_unlearn.simulations.report.page.reading import Reading, data, joined
from fed_unlearn.simulations.report.page.words import asked_markup
from fed_unlearn.simulations.run.results import RelapseResult
from fed_unlearn.strategies.worn_off import worn_off_at

_TONES = {"committed": "good", "failed": "bad", "rejected": "bad", "withdrawn": "open"}
_MARKS = {"good": "✓", "bad": "✕", "open": "◔"}
_ENDED = {"failed": "failed", "rejected": "rejected", "withdrawn": "withdrawn", "held": "held"}
_KNOWN = {
    "measured": "Known by measurement",
    "by construction": "By construction",
    "not measurable": "Not measurable",
}
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
    asked, done, well, known : Markup
        Sentences. ``well`` and ``known`` are empty where there is nothing to say.
    has_worn_off : bool
        Whether the forgetting has worn off since.
    """

    id: str
    status: str
    tone: str
    mark: str
    asked: Markup
    done: Markup
    well: Markup
    known: Markup
    has_worn_off: bool


def worn_off_look(reading: Reading, index: int) -> int | None:
    """Index of the row of ``relapse`` that shows that a committed request has worn off; None where it holds.

    Parameters
    ----------
    reading : Reading
    index : int
        Index of the request in the results.
    """
    request = reading.value("requests", index)
    if request["status"] != "committed":
        return None
    return worn_off_at([RelapseResult(**row) for row in reading.value("relapse") or ()], request["id"])


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
        has_worn_off=has_worn_off,
        asked=asked_markup(reading, index),
        done=_done(reading, index),
        well=_well(reading, index),
        known=_known(reading, index),
    )


def _done(reading: Reading, index: int) -> Markup:
    request = reading.value("requests", index)
    attempts = Markup("after {} attempt{}").format(
        reading.number("requests", index, "attempts"), "" if request["attempts"] == 1 else "s"
    )
    method = Markup("<i>{}</i>").format(reading.text("requests", index, "method"))
    why = Markup(": {}.").format(reading.text("requests", index, "reason")) if request.get("reason") else Markup(".")
    match request["status"]:
        case "committed":
            return Markup("Done by {} {}.").format(method, attempts)
        case "failed":
            left = "The last accepted model still serves. The data is in no training from now on."
            return Markup("Failed {}, by {}{} {}").format(attempts, method, why, left)
        case "rejected":
            return Markup("Rejected{}").format(why)
        case "held":
            return Markup("Held until somebody approves it{}").format(why)
        case "withdrawn":
            return Markup("Withdrawn{}").format(why)
    status = reading.text("requests", index, "status")
    return Markup("Has not ended: its status is {}{}").format(status, why)


def _well(reading: Reading, index: int) -> Markup:
    request = reading.value("requests", index)
    if not request.get("before") or not request.get("after"):
        return Markup("")
    parts = []
    if request["scope"] == "class" and request["after"].get("test_forget_accuracy") is not None:
        parts.append(_change(reading, index, "test_forget_accuracy", "on its test images"))
    elif request["scope"] == "client" or request.get("goal") == "indistinguishable":
        half = data(0.5, 1, data_constant="chance")
        subject = Markup("of a membership attack on its samples (at {} it tells nothing)").format(half)
        parts.append(_change(reading, index, "membership_auc", subject))
    else:
        parts.append(_change(reading, index, "forget_accuracy", "on its samples"))
    parts.append(_change(reading, index, "test_retain_accuracy", "on all other test images"))
    parts = [part for part in parts if part]
    kind = "AUC" if parts and "membership" in parts[0] else "Accuracy"
    told = joined(parts, "; accuracy " if kind == "AUC" else "; ")
    if not parts:
        return Markup("")
    if request["status"] == "failed":
        return Markup("The last candidate, which does not serve: {} {}.").format(kind.replace("Acc", "acc"), told)
    return Markup("{} {}.").format(kind, told)


def _change(reading: Reading, index: int, figure: str, subject: Markup | str) -> Markup:
    place = ("requests", index)
    if reading.value(*place, "after", figure) is None:
        return Markup("")
    known = []
    if reading.value(*place, "before", figure) is not None:
        known.append(Markup("{} before").format(reading.number(*place, "before", figure)))
    if reading.value(*place, "oracle", figure) is not None:
        known.append(Markup("{} if retrained without it").format(reading.number(*place, "oracle", figure)))
    beside = Markup(" ({})").format(joined(known, ", ")) if known else Markup("")
    return Markup("{}: <b>{}</b>{}").format(subject, reading.number(*place, "after", figure), beside)


def _known(reading: Reading, index: int) -> Markup:
    request = reading.value("requests", index)
    if request["status"] != "committed":
        return Markup("")
    evidence = request.get("evidence")
    known = Markup("{}").format(_KNOWN.get(evidence or "", "How this is known was not recorded"))
    witnesses = request.get("witnesses")
    if evidence == "measured" and witnesses is not None:
        number = reading.number("requests", index, "witnesses")
        known = Markup("{} at {} client{}").format(known, number, ", which alone says so" if witnesses == 1 else "s")
    parts = [Markup("{}.").format(known)]
    worn = worn_off_look(reading, index)
    if worn is not None:
        event = reading.text("relapse", worn, "after")
        parts.append(Markup("<strong>It has worn off since: after {} the gate would refuse it.</strong>").format(event))
    return joined(parts)
