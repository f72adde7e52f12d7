"""Names that must not stand in a receipt: of clients, of samples and of classes."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from fed_unlearn.ledger import Ledger
from fed_unlearn.requests import ClassScope, ForgetRequest, SampleScope

_ANYWHERE = 4
"""Names of so many characters or more are looked for inside of words too."""

_LONGEST_ID = 100


def names_in(ledger: Ledger, request: ForgetRequest) -> list[str]:
    """All names that the receipt of a request must not hold."""
    found = {*ledger.known_clients(), *ledger.class_names().names}
    if not isinstance(request.scope, ClassScope):
        found.add(request.scope.client)
    if isinstance(request.scope, SampleScope):
        found |= {*request.scope.sample_ids}  # an owner's id of a request is random, and says nothing of anybody
    return sorted(found - {""})


def holds_a_name(text: str, names: Iterable[str]) -> bool:
    """Whether one of some names stands in a text as a word, or anywhere if it has four characters or more."""
    folded = _folded(text)
    return any(_stands_in(_folded(name), folded) for name in names)


def may_be_shown(request_id: str, names: Iterable[str]) -> bool:
    """Whether the id of a request can stand in a receipt: it is short, printable, and holds no name."""
    return 0 < len(request_id) <= _LONGEST_ID and request_id.isprintable() and not holds_a_name(request_id, names)


def _stands_in(name: str, text: str) -> bool:
    at = text.find(name)
    while at >= 0:
        if len(name) >= _ANYWHERE or not (text[:at][-1:].isalnum() or text[at + len(name) :][:1].isalnum()):
            return True
        at = text.find(name, at + 1)
    return False


def _folded(text: str) -> str:
    """A text without differences of capitals, and of how Unicode puts letters together."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
