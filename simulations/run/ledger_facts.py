"""What ``results.json`` says of a run's ledger, and what the ledger's events say of each request."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from fed_unlearn.ledger import Ledger, LedgerEvent
from fed_unlearn.ledger.lifecycle import Status

ENDED = ("committed", "failed", "rejected")
"""Events at which a request ends that has results."""


@dataclass(frozen=True, kw_only=True)
class LedgerFacts:
    """Where the ledger of a run stood when the results were written.

    Attributes
    ----------
    identity : str
        UUID of the ledger.
    events : int
        Number of events.
    head : str
        Digest of the last event, in hexadecimal.
    """

    identity: str
    events: int
    head: str

    @classmethod
    def of(cls, ledger: Ledger) -> LedgerFacts:
        """Where a ledger stands now."""
        events, head = ledger.head()
        return cls(identity=ledger.identity, events=events, head=head)


@dataclass(frozen=True, kw_only=True)
class RequestLife:
    """When a request came and last ended, and between which models; as in ``RequestResult``.

    Attributes
    ----------
    submitted, ended : float or None
        In seconds since the epoch.
    model_before, model_after : str or None
        Digests, in hexadecimal.
    """

    submitted: float | None = None
    ended: float | None = None
    model_before: str | None = None
    model_after: str | None = None


def lives_of(events: Iterable[LedgerEvent]) -> dict[str, RequestLife]:
    """The life of every request, by its id.

    Parameters
    ----------
    events : iterable of LedgerEvent
        All events of a ledger, in order.
    """
    lives: dict[str, RequestLife] = {}
    served: str | None = None
    begun_on: dict[str, str | None] = {}
    candidates: dict[str, str | None] = {}
    for event in events:
        name = event.request_id
        if event.name == "model-accepted":
            served = _digest_in(event)
        if name is None:
            continue
        known = lives.setdefault(name, RequestLife())
        match event.name:
            case Status.RECEIVED if known.submitted is None:
                lives[name] = replace(known, submitted=event.time)
            case Status.UNLEARNING:
                begun_on.setdefault(name, served)
            case Status.COMMITTING:
                candidates[name] = _digest_in(event)
            case Status.COMMITTED | Status.FAILED | Status.REJECTED:
                before = begun_on.pop(name, None)
                after = candidates.get(name) if event.name == Status.COMMITTED else served
                ended = replace(known, ended=event.time, model_before=before)
                lives[name] = replace(ended, model_after=None if before is None else after)
    return lives


def owed_by_request(ledger: Ledger) -> dict[str, tuple[str, ...]]:
    """The clients that owe tombstones of each request, by request; clients that left owe none."""
    departed = ledger.departed()
    return {entry.id: tuple(name for name in entry.owed if name not in departed) for entry in ledger.entries()}


def _digest_in(event: LedgerEvent) -> str | None:
    digest = event.facts.get("digest")
    return None if digest is None else str(digest)
