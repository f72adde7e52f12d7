"""What the summary says of one request: all in a sentence, and the figures behind it in another."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from fed_unlearn.simulations.report.page.reading import Reading, data, joined
from fed_unlearn.simulations.report.page.words import asked_markup
from fed_unlearn.simulations.run.results import IMAGES, RelapseResult
from fed_unlearn.strategies.worn_off import worn_off_at

_OPEN = {
    "received": "it has not been taken up yet",
    "waiting": "it waits until its client is back",
    "held": "it is held until somebody approves it",
    "unlearning": "it is being served",
    "repairing": "it is being served",
    "auditing": "it is being served",
    "committing": "it is being served",
    "rolled-back": "an attempt was taken back, and it has not ended",
    "reopened": "it was committed, has worn off, and is tried again",
    "rejected": "it was rejected",
    "withdrawn": "it was withdrawn",
}
"""What is said of a request that was neither committed nor failed, by its status."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A figure that the summary shows.

    Attributes
    ----------
    figure : str
        Its name.
    called : Markup
        What the summary calls it.
    """

    figure: str
    called: Markup


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


def sentence_of(reading: Reading, index: int) -> Markup:
    """Say in a sentence what was asked, what was done, how well, and how that is known.

    Parameters
    ----------
    reading : Reading
    index : int
        Index of the request in the results.
    """
    match reading.value("requests", index, "status"):
        case "committed":
            done = _committed(reading, index)
        case "failed":
            done = _failed(reading, index)
        case _:
            done = _open(reading, index)
    return Markup('Asked to <span class="asked">{}</span>; {}').format(asked_markup(reading, index), done)


def figures_line(reading: Reading, index: int) -> Markup:
    """The figures behind the sentence, before the request, after it and of the oracle, with their intervals.

    Parameters
    ----------
    reading : Reading
    index : int
        Index of the request in the results.

    Returns
    -------
    Markup
        Empty where nothing was measured.
    """
    request = reading.value("requests", index)
    if not request.get("before") or not request.get("after"):
        return Markup("")
    shown = [main_figure(reading, index), Shown(figure="test_retain_accuracy", called=_others(reading))]
    told = [_figure(reading, index, item) for item in shown]
    line = joined([part for part in told if part], "; ")
    if not line:
        return line
    whose = "Of the last candidate, which does not serve: " if request["status"] == "failed" else ""
    return Markup("{}{}.").format(whose, line if whose else _capital(line))


def main_figure(reading: Reading, index: int) -> Shown:
    """The figure that says best how well a request was served."""
    request = reading.value("requests", index)
    on_test = reading.value("requests", index, "after", "test_forget_accuracy") is not None
    attacked = reading.value("requests", index, "after", "membership_auc") is not None
    if request["scope"] == "class" and on_test:
        return Shown(figure="test_forget_accuracy", called=Markup("accuracy on its test {}").format(_samples(reading)))
    if attacked and (request["scope"] == "client" or request.get("goal") == "indistinguishable"):
        half = data(0.5, 1, data_constant="chance")
        called = Markup("the AUC of the membership attack on its samples, where {} is a guess,").format(half)
        return Shown(figure="membership_auc", called=called)
    return Shown(figure="forget_accuracy", called=Markup("accuracy on its training samples"))


def _committed(reading: Reading, index: int) -> Markup:
    attempts = reading.value("requests", index, "attempts")
    number = reading.number("requests", index, "attempts")
    tries = Markup(" at the first attempt") if attempts == 1 else Markup(" in {} attempts").format(number)
    method = Markup("<i>{}</i>").format(reading.text("requests", index, "method"))
    parts = [Markup("{} did it{}").format(method, tries if attempts else ""), _change(reading, index)]
    done = Markup("{}; evidence: {}").format(joined(parts, ", and "), _evidence(reading, index))
    worn = worn_off_look(reading, index)
    if worn is None:
        return Markup("{}.").format(done)
    event = reading.text("relapse", worn, "after")
    return Markup("{}; <strong>but it has worn off: after {} the gate would refuse it</strong>.").format(done, event)


def _failed(reading: Reading, index: int) -> Markup:
    attempts = reading.value("requests", index, "attempts")
    number = reading.number("requests", index, "attempts")
    tries = Markup("{} attempt{}").format(number, "" if attempts == 1 else "s")
    method = Markup("<i>{}</i>").format(reading.text("requests", index, "method"))
    left = Markup("{} failed in {}, so the last accepted model still serves, and the data stays out of training{}")
    return left.format(method, tries, _reason(reading, index))


def _open(reading: Reading, index: int) -> Markup:
    status = reading.text("requests", index, "status")
    said = _OPEN.get(reading.value("requests", index, "status"))
    state = Markup("{}").format(said) if said else Markup("it has not ended, and is {}").format(status)
    return Markup("{}{}").format(state, _reason(reading, index))


def _reason(reading: Reading, index: int) -> Markup:
    """Why, and the end of the sentence."""
    reason = reading.value("requests", index, "reason")
    if not reason:
        return Markup(".")
    end = "" if str(reason).endswith((".", "!", "?")) else "."
    return Markup(": {}{}").format(reading.text("requests", index, "reason"), end)


def _change(reading: Reading, index: int) -> Markup:
    """How the main figure changed; empty where it was not measured."""
    shown = main_figure(reading, index)
    places = [("requests", index, model, shown.figure) for model in ("before", "after")]
    before, after = (reading.value(*place) for place in places)
    if after is None:
        return Markup("")
    told = reading.number(*places[1])
    if before is None or before == after:
        return Markup("{} {} <b>{}</b>").format(shown.called, "is" if before is None else "stayed at", told)
    moved = "fell" if after < before else "rose"
    return Markup("{} {} from {} to <b>{}</b>").format(shown.called, moved, reading.number(*places[0]), told)


def _evidence(reading: Reading, index: int) -> Markup:
    evidence, witnesses = (reading.value("requests", index, key) for key in ("evidence", "witnesses"))
    if evidence is None:
        return Markup("not recorded")
    known = reading.text("requests", index, "evidence")
    if evidence != "measured" or witnesses is None:
        return known
    number = reading.number("requests", index, "witnesses")
    return Markup("{} at {} client{}").format(known, number, " alone" if witnesses == 1 else "s")


def _figure(reading: Reading, index: int, shown: Shown) -> Markup:
    """A figure of all models that have it, each with its interval."""
    if reading.value("requests", index, "after", shown.figure) is None:
        return Markup("")
    parts = []
    for model, words in (("before", "before"), ("after", "after"), ("oracle", "oracle")):
        place = ("requests", index, model)
        if reading.value(*place, shown.figure) is None:
            continue
        interval = reading.interval(*place, "intervals", shown.figure)
        between = Markup(" ({})").format(interval) if interval else Markup("")
        parts.append(Markup("{} {}{}").format(words, reading.number(*place, shown.figure), between))
    return Markup("{} {}").format(shown.called, joined(parts, ", "))


def _others(reading: Reading) -> Markup:
    return Markup("accuracy on all other test {}").format(_samples(reading))


def _samples(reading: Reading) -> str:
    return "images" if reading.value("input") == IMAGES else "samples"


def _capital(line: Markup) -> Markup:
    """A line whose first character is no markup, with a capital."""
    return Markup(line[:1].upper() + line[1:])
