"""The life of a forget request: its states, and the steps between them."""

from __future__ import annotations

from enum import StrEnum

from fed_unlearn.errors import TransitionError


class Status(StrEnum):
    """Where a request stands; the ledger records every step."""

    RECEIVED = "received"
    WAITING = "waiting"
    """Its client is offline; it is taken up again when the client is back."""
    HELD = "held"
    """It asks for so much that somebody has to approve it first."""
    UNLEARNING = "unlearning"
    REPAIRING = "repairing"
    AUDITING = "auditing"
    COMMITTING = "committing"
    ROLLED_BACK = "rolled-back"
    COMMITTED = "committed"
    REOPENED = "reopened"
    """It was committed and has relapsed, and is tried again."""
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
        {Status.UNLEARNING, Status.WAITING, Status.RECEIVED, Status.FAILED, Status.WITHDRAWN}
    ),
    Status.COMMITTED: frozenset({Status.REOPENED}),
    Status.REOPENED: frozenset({Status.UNLEARNING, Status.WAITING, Status.COMMITTED, Status.FAILED}),
    Status.FAILED: frozenset(),
    Status.REJECTED: frozenset(),
    Status.WITHDRAWN: frozenset(),
}
"""Which step may follow which; nothing else ever happens to a request."""

FINAL = frozenset({Status.COMMITTED, Status.FAILED, Status.REJECTED, Status.WITHDRAWN})
"""Nothing is left to do for a request that stands here; only a relapse re-opens a committed one."""

WITHDRAWABLE = frozenset(status for status, following in TRANSITIONS.items() if Status.WITHDRAWN in following)
"""Where a request can still be withdrawn: no candidate model is being made of it."""


def check_transition(request_id: str, current: Status, following: Status) -> None:
    """Refuse a step that the life of a request does not have.

    Raises
    ------
    TransitionError
        Naming the request, the step and what could follow.
    """
    if following not in TRANSITIONS[current]:
        allowed = ", ".join(sorted(TRANSITIONS[current])) or "nothing: it is final"
        raise TransitionError(f"request {request_id}: {current} -> {following} is no step; after {current}: {allowed}")
