"""Every receipt that can be told apart by its sentences: kinds of requests, ways to end, and ways to know."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from fed_unlearn.receipts import Receipt
from fed_unlearn.receipts.document import Audits, Figure
from fed_unlearn.receipts.words import SENTENCES, ReasonWord

KINDS: dict[str, dict[str, object]] = {
    "class": {"scope": "class", "classes": (3,), "samples": None, "goal": None},
    "client": {"scope": "client", "classes": None, "samples": None, "goal": None},
    **{
        f"sample {goal}": {"scope": "sample", "classes": None, "samples": 4, "goal": goal}
        for goal in (None, "misclassify", "relabel", "indistinguishable")
    },
}
"""What can be asked, by a name."""

OF_COMMITTED: tuple[ReasonWord, ...] = ("nothing-to-change", "partly-forgotten-before", "rows-kept")
"""Words that stand in the receipts of committed requests."""

_NOTHING = Audits(before={}, after={})


def told_receipts(some: Receipt) -> Iterator[tuple[str, Receipt]]:
    """All of them, each with a name that says what it is.

    Parameters
    ----------
    some : Receipt
        The receipt of a committed request, whose other fields they have.
    """
    for (kind, asked), (ending, ended) in itertools.product(KINDS.items(), _endings(some)):
        audits = ended.get("audits", some.audits)
        assert isinstance(audits, Audits)
        body = {**some.model_dump(), **asked, **ended, "audits": of_kind(audits, str(asked["scope"])).model_dump()}
        yield f"{kind}: {ending}", Receipt.model_validate(body)


def of_kind(audits: Audits, scope: str) -> Audits:
    """The figures that a request of a scope can have: only classes have test samples and a hidden score of their own."""
    of_classes = {"test_forget_accuracy", "logit_auc", "recall_at_5"}
    both = [
        {name: each for name, each in figures.items() if scope == "class" or name not in of_classes}
        for figures in (audits.before, audits.after)
    ]
    return Audits(before=both[0], after=both[1])


def _endings(some: Receipt) -> Iterator[tuple[str, dict[str, object]]]:
    stays = {"models": {"before": some.models.before, "after": some.models.before}, "evidence": None}
    tried = {"attempts": 2, "method": "boundary-shrink"}
    untried = {"attempts": 0, "method": None, "witnesses": None, "audits": _NOTHING}
    every = {name: Figure(value=0.25, interval=(0.125, 0.5)) for name in some.audits.after}
    audits = Audits(before=every, after={**every, "membership_auc": Figure(value=0.0, interval=None)})
    for known, witnesses in itertools.product(("measured", "by construction", "not measurable", None), (None, 1, 3)):
        ended = {"status": "committed", "evidence": known, "witnesses": witnesses, "audits": audits, **tried}
        yield f"committed, {known}, {witnesses} witnesses", {**ended, "reasons": ()}
    ended = {"status": "committed", "evidence": "not measurable", "witnesses": 3, "audits": audits, **tried}
    yield "committed, partly before", {**ended, "reasons": ("partly-forgotten-before",)}
    yield "committed, rows kept", {**ended, "reasons": ("rows-kept",)}
    unchanged = {**ended, **stays, "evidence": "not measurable", "reasons": ("nothing-to-change",)}
    yield "committed, nothing changed", unchanged
    yield "committed again", {**ended, "evidence": "measured", "reasons": (), "number": 2, "supersedes": "f" * 64}
    only_after = Audits(before={}, after=every)
    yield "committed, the first end of two", {**ended, "reasons": (), "audits": only_after, "witnesses": None}
    for word in sorted(set(SENTENCES) - set(OF_COMMITTED)):
        yield f"failed, {word}", {"status": "failed", **stays, **tried, "reasons": (word,), "audits": audits}
    yield "failed, no figures", {"status": "failed", **stays, **tried, "reasons": (), "audits": _NOTHING}
    only_before = Audits(before=every, after={})
    yield "failed, nothing came", {"status": "failed", **stays, **tried, "reasons": (), "audits": only_before}
    for word in ("not-possible", "forgotten-before", "client-missing", "other"):
        yield f"rejected, {word}", {"status": "rejected", **stays, **untried, "reasons": (word,)}
    again = {"number": 2, "supersedes": "f" * 64}
    yield "rejected after a relapse", {"status": "rejected", **stays, **untried, **again, "reasons": ("other",)}
    yield "failed after a relapse", {"status": "failed", **stays, **tried, **again, "reasons": ("client-missing",)}
    yield "withdrawn", {"status": "withdrawn", **stays, **untried, "reasons": ()}
    yield (
        "withdrawn after a try",
        {"status": "withdrawn", **stays, **tried, "witnesses": None, "reasons": (), "audits": _NOTHING},
    )
