"""The closed words in which a receipt says why a request ended as it did.

Reasons in the ledger are the operator's: they may name clients. A receipt has words of this module in their
place.
"""

from __future__ import annotations

import re
from typing import Literal

ReasonWord = Literal[
    "still-known",
    "too-much-lost",
    "evidence-missing",
    "client-missing",
    "forgotten-before",
    "partly-forgotten-before",
    "nothing-to-change",
    "rows-kept",
    "other",
]
"""Why a request ended as it did."""

SENTENCES: dict[ReasonWord, str] = {
    "still-known": "The model still showed knowledge of the data.",
    "too-much-lost": "The model would have lost too much of what it must keep.",
    "evidence-missing": "It could not be shown that the data was forgotten.",
    "client-missing": "A participant that holds the data was not there, or gave no usable answer.",
    "forgotten-before": "The data had been forgotten before, by another request.",
    "partly-forgotten-before": "Some of the samples had been forgotten before, by another request.",
    "nothing-to-change": "The model treated the data like data that it never saw, so nothing was changed.",
    "rows-kept": "The last layer of the model was left as it was trained.",
    "other": "The operator knows the reason. It is not in this receipt because it may name others.",
}
"""What each word means, in a sentence."""

_PATTERNS: tuple[tuple[ReasonWord, re.Pattern[str]], ...] = (
    ("still-known", re.compile(r"forget accuracy .* is over|membership attack|log-odds of the client")),
    ("too-much-lost", re.compile(r"retained validation accuracy .* is over")),
    (
        "evidence-missing",
        re.compile(r"its forgetting is |was not measured|has nothing beside it|no reference says|is over .* and the"),
    ),
    (
        "client-missing",
        re.compile(r"is not reachable|did not confirm|answered nothing|no usable answer|gave no|left for good"),
    ),
    ("forgotten-before", re.compile(r"forgotten already$|forgotten already;|is forgotten already")),
    ("partly-forgotten-before", re.compile(r"[0-9]+ of its [0-9]+ samples were forgotten already")),
    ("nothing-to-change", re.compile(r"no holder's step has changed the model")),
    ("rows-kept", re.compile(r"output rows .*as they were trained|rows stay as they were trained")),
)


def words_of(reason: str | None) -> tuple[ReasonWord, ...]:
    """The words that a reason of the ledger contains, in a fixed order; ``other`` if it contains none of them."""
    if not reason:
        return ()
    found = tuple(word for word, pattern in _PATTERNS if pattern.search(reason))
    return found or ("other",)
