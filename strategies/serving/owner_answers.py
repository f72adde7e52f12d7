"""What a node is told of a request of its owner: nothing in it comes from another client."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from pydantic import ValidationError

from fed_unlearn.figure_numbers import finite_number
from fed_unlearn.ledger import Ledger, LedgerEntry
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.owner import OwnerAnswer
from fed_unlearn.owner.records import ENDED, LONGEST_REASON, LONGEST_WORD, MOST_FIGURES, REFUSED
from fed_unlearn.strategies.serving.owner_book import Known
from fed_unlearn.strategies.serving.reasons import is_own_reason
from fed_unlearn.text import printable

logger = logging.getLogger("fed_unlearn.strategies")

_LONGEST_FIGURE = 100
_UNREADABLE = "what became of it cannot be told; the operator sees it"
_PHRASES = {
    Status.WAITING: "it waits for what it needs; the operator sees for what",
    Status.REJECTED: "it cannot be served as it was put; the operator sees why",
    Status.FAILED: "it could not be done; the operator sees why",
}
_TRIED_AGAIN = "an attempt was taken back; the operator sees why"
_NEEDS_APPROVAL = "it asks for so much that it needs approval by the operator"
_DOUBTED = "its figures are doubted, and it needs approval by the operator"


def answer_of(ledger: Ledger, client: str, owner_request: str, known: Known) -> OwnerAnswer:
    """What the node of a client is told of one request of its owner.

    Reasons in the ledger are the operator's: they may name other clients, and hold what these have said. The node gets
    those that speak of its own client alone, and a phrase of this module in place of any other.

    Parameters
    ----------
    ledger : Ledger
    client : str
        The client whose owner asks.
    owner_request : str
        The request's id at the node.
    known : Known
        What the ledger keeps of it.

    Returns
    -------
    OwnerAnswer
        The answer. The node can read it, whatever stands in the ledger.
    """
    if not known.request:
        status, reason = "withdrawn" if known.withdrawn else REFUSED, printable(known.refused, LONGEST_REASON)
        return OwnerAnswer(owner_request=owner_request, status=status, reason=reason)
    entry = ledger.entry(known.request)
    facts = entry.outcome or {}
    try:
        return OwnerAnswer(
            owner_request=owner_request,
            status=str(entry.status),
            request=printable(entry.id, LONGEST_WORD),
            reason=printable(reason_for(entry, client), LONGEST_REASON),
            method=printable(entry.method or str(facts.get("method") or ""), LONGEST_WORD),
            evidence=printable(str(facts.get("evidence") or ""), LONGEST_WORD),
            attempts=entry.attempt,
            relapses=sum(event.name == "relapsed" for event in ledger.events(entry.id)),
            figures=figures_of(facts) if str(entry.status) in ENDED else {},
        )
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        logger.warning("request %s: its owner cannot be told all of it: %s", entry.id, fault["msg"])
        return OwnerAnswer(owner_request=owner_request, status=str(entry.status), reason=_UNREADABLE)


def reason_for(entry: LedgerEntry, client: str) -> str:
    """Why a request of a client's owner stands where it does, in words that are of that client alone."""
    reason = entry.reason or str((entry.outcome or {}).get("reason") or "")
    if not reason or _is_of(client, entry.status, reason):
        return reason
    if entry.status is Status.HELD:
        return _DOUBTED if entry.attempt else _NEEDS_APPROVAL
    return _PHRASES.get(entry.status, _TRIED_AGAIN)


def _is_of(client: str, status: Status, reason: str) -> bool:
    """Whether a reason is one that is known to hold nothing of other clients."""
    own = ("is not reachable", "is forgotten already", "is the last one that is left")
    if is_own_reason(reason) or reason in [f"client {client} {state}" for state in own]:
        return True
    # Only the client that holds the samples rejects a request of samples, in words of its own.
    return status is Status.REJECTED and reason.startswith(f"client {client}: ")


def figures_of(outcome: Mapping[str, object]) -> dict[str, float]:
    """The finite figures of an outcome by name, such as ``"after/forget_accuracy"``."""
    found: dict[str, float] = {}
    for when in ("before", "after"):
        figures = outcome.get(when)
        for name, value in figures.items() if isinstance(figures, dict) else ():
            label = printable(f"{when}/{name}", _LONGEST_FIGURE)
            if (number := finite_number(value)) is not None and len(found) < MOST_FIGURES:
                found[label] = number
    return found
