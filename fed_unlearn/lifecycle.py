"""The life of a forget request: its states, and the steps between them."""

from __future__ import annotations

from enum import StrEnum

from fed_unlearn.errors import TransitionError


class Status(StrEnum):
    """Where a request stands; the ledger records every step."""

    RECEIVED = "received"
    UNLEARNING = "unlearning"
    REPAIRING = "repairing"
    AUDITING = "auditing"
    COMMITTING = "committing"
    ROLLED_BACK = "rolled-back"
    COMMITTED = "committed"
    FAILED = "failed"
    REJECTED = "rejected"


TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.RECEIVED: frozenset({Status.UNLEARNING, Status.REJECTED}),
    Status.UNLEARNING: frozenset({Status.REPAIRING, Status.AUDITING, Status.ROLLED_BACK, Status.REJECTED}),
    Status.REPAIRING: frozenset({Status.REPAIRING, Status.UNLEARNING, Status.AUDITING, Status.ROLLED_BACK}),
    Status.AUDITING: frozenset({Status.REPAIRING, Status.COMMITTING, Status.ROLLED_BACK}),
    Status.COMMITTING: frozenset({Status.COMMITTED, Status.ROLLED_BACK}),
    Status.ROLLED_BACK: frozenset({Status.UNLEARNING, Status.FAILED}),
    Status.COMMITTED: frozenset(),
    Status.FAILED: frozenset(),
    Status.REJECTED: frozenset(),
}
"""Which step may follow which; nothing else ever happens to a request."""

FINAL = frozenset(status for status, following in TRANSITIONS.items() if not following)


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
