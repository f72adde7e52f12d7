"""The life of a forget request: its statuses, and which may follow which."""

from __future__ import annotations

from enum import StrEnum

from fed_unlearn.errors import TransitionError


class Status(StrEnum):
    """Status of a request. The ledger records every change."""

    RECEIVED = "received"
    WAITING = "waiting"
    """The request's client is offline. The request is taken up when the client is back."""
    HELD = "held"
    """Somebody must approve the request: it asks for much, or its verdict rests on implausible figures."""
    UNLEARNING = "unlearning"
    REPAIRING = "repairing"
    AUDITING = "auditing"
    COMMITTING = "committing"
    ROLLED_BACK = "rolled-back"
    COMMITTED = "committed"
    REOPENED = "reopened"
    """The request was committed and has relapsed. It is tried again."""
    FAILED = "failed"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"


TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.RECEIVED: frozenset(
        {Status.WAITING, Status.HELD, Status.UNLEARNING, Status.REJECTED, Status.WITHDRAWN},
    ),
    Status.WAITING: frozenset(
        {Status.RECEIVED, Status.HELD, Status.UNLEARNING, Status.FAILED, Status.REJECTED, Status.WITHDRAWN},
    ),
    Status.HELD: frozenset({Status.RECEIVED, Status.REJECTED, Status.WITHDRAWN}),
    Status.UNLEARNING: frozenset(
        {Status.UNLEARNING, Status.REPAIRING, Status.AUDITING, Status.ROLLED_BACK, Status.REJECTED}
    ),
    Status.REPAIRING: frozenset({Status.REPAIRING, Status.UNLEARNING, Status.AUDITING, Status.ROLLED_BACK}),
    Status.AUDITING: frozenset(
        {Status.AUDITING, Status.REPAIRING, Status.UNLEARNING, Status.COMMITTING, Status.ROLLED_BACK}
    ),
    Status.COMMITTING: frozenset({Status.COMMITTED, Status.ROLLED_BACK}),
    Status.ROLLED_BACK: frozenset(
        {Status.UNLEARNING, Status.WAITING, Status.RECEIVED, Status.HELD, Status.FAILED, Status.WITHDRAWN}
    ),
    Status.COMMITTED: frozenset({Status.REOPENED}),
    Status.REOPENED: frozenset({Status.UNLEARNING, Status.WAITING, Status.COMMITTED, Status.FAILED}),
    Status.FAILED: frozenset(),
    Status.REJECTED: frozenset(),
    Status.WITHDRAWN: frozenset(),
}
"""The statuses that may follow each status."""

FINAL = frozenset({Status.COMMITTED, Status.FAILED, Status.REJECTED, Status.WITHDRAWN})
"""Statuses at which a request has ended. Only a relapse reopens a committed request."""

WITHDRAWABLE = frozenset(status for status, following in TRANSITIONS.items() if Status.WITHDRAWN in following)
"""Statuses at which a request can be withdrawn, because no candidate model is being made."""


def check_transition(request_id: str, current: Status, following: Status) -> None:
    """Raise if a status cannot follow the present one.

    Raises
    ------
    TransitionError
        The message names the request, both statuses and those that may follow.
    """
    if following not in TRANSITIONS[current]:
        allowed = ", ".join(sorted(TRANSITIONS[current])) or "nothing: it is final"
        raise TransitionError(f"request {request_id}: {current} -> {following} is no step; after {current}: {allowed}")
