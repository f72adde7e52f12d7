"""The closed words in which a receipt says why a request ended as it did.

Reasons in the ledger are the operator's: they may name clients. A receipt has words of this module in their place.
Ledgers hold reasons as text alone, so words are found in the text. A test reads all texts that the code can write out
of the code itself, and demands a word for each. Why a client refuses a request has the word ``other``, and so has what
a user's own code writes.
"""

from __future__ import annotations

import re
from typing import Literal

ReasonWord = Literal[
    "still-known",
    "too-much-lost",
    "bound-missed",
    "evidence-missing",
    "earlier-undone",
    "model-unchanged",
    "model-broken",
    "change-too-large",
    "client-missing",
    "method-unfit",
    "not-possible",
    "forgotten-before",
    "partly-forgotten-before",
    "nothing-to-change",
    "rows-kept",
    "other",
]
"""Why a request ended as it did."""

SENTENCES: dict[ReasonWord, str] = {
    "still-known": "A model that was tried was outside the bounds on forgetting.",
    "too-much-lost": "The model would have lost too much of what it has to keep.",
    "bound-missed": "A figure lay outside of the bounds that the operator set.",
    "evidence-missing": "It could not be shown that what was asked for was done.",
    "earlier-undone": "The model would have undone what an earlier request had asked for.",
    "model-unchanged": "A method that was tried did not change the model.",
    "model-broken": "The model would have been of no use any more.",
    "change-too-large": "The model would have had to change by more than one participant may change it.",
    "client-missing": "A participant that was needed for it was not there, or gave no usable answer.",
    "method-unfit": "A method that was tried cannot be used for this request with this model.",
    "not-possible": "The model cannot do without what the request names, or has no such data.",
    "forgotten-before": "The data had been forgotten before, by another request.",
    "partly-forgotten-before": "Samples among these were named by an earlier request that was carried out.",
    "nothing-to-change": "The model met what was asked for already, so nothing was changed.",
    "rows-kept": "The last layer of the model was left as it was trained.",
    "other": "The operator knows the reason. It is not in this receipt, because it may name others.",
}
"""What each word means, in a sentence."""

_UNDONE = r"(?:^|; )it would undo request .*?: [^;]*"
"""What is said of another request, whose figures are not those of this one."""

_PATTERNS: dict[ReasonWord, str] = {
    "still-known": r"forget accuracy -?[0-9.]+ is over|the membership attack's AUC|log-odds of the client's samples",
    "too-much-lost": r"retained validation accuracy -?[0-9.]+ is over",
    "bound-missed": r"(^|; )[a-z][a-z0-9_]* -?[0-9.]+(, between [^;]*,)? is (over|under) ",
    "evidence-missing": (
        r"its forgetting is |no sample of the forget set could be read|was not measured|has nothing beside it"
        r"|no reference says"
    ),
    "earlier-undone": _UNDONE,
    "model-unchanged": r"no step of the method has changed the model",
    "model-broken": r"a parameter is not finite",
    "change-too-large": r"clip norm",
    "client-missing": (
        r"is not reachable|did not confirm|did not answer|no client trained|no client that stays (trained|sent)"
        r"|sent a model that cannot be used|made nothing of [0-9]+ replies|[0-9]+ usable replies came"
        r"|no client could repair the model"
    ),
    "method-unfit": (
        r"it serves .* requests, not .* ones|was trained elsewhere|no history is kept|the history does not begin"
        r"|the model has [0-9]+ arrays? of weights|and the model has [0-9]+ arrays|it needs the strategy "
        r"|no round was trained so far|nothing was trained here yet|its last blocks (is|are|have) |past the noise of"
    ),
    "not-possible": (
        r"is not a class of the data|it would leave fewer than|is the last one that is left"
        r"|no reachable client holds a sample of"
    ),
    "forgotten-before": r"is forgotten already",
    "partly-forgotten-before": r"[0-9]+ of its [0-9]+ samples were forgotten already",
    "nothing-to-change": r"no holder's step has changed the model",
    "rows-kept": r"its output rows stay as they were trained",
}


_OF_A_CLIENT = re.compile(r"(?:^|; |: )client \S+: ")
"""How the server tells what is wrong with a client's answer, and why a client refuses a request."""


def words_of(reason: str | None, status: str | None = None) -> tuple[ReasonWord, ...]:
    """The words for what a reason of the ledger says, in a fixed order; ``other`` if this module knows none for it.

    Parameters
    ----------
    reason : str or None
    status : str, optional
        The status in which the request ended. Where it is ``failed``, a client's own text is why no answer was usable.
    """
    if not reason:
        return ()
    own = re.sub(_UNDONE, "", reason)
    found: set[ReasonWord] = {
        word for word, pattern in _PATTERNS.items() if re.search(pattern, reason if pattern is _UNDONE else own)
    }
    if status == "failed" and _OF_A_CLIENT.search(own):
        found.add("client-missing")
    return tuple(word for word in SENTENCES if word in found) or ("other",)
