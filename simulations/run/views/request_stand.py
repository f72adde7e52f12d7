"""Where a request stands, and whether the model that belongs to it still serves, from the ledger's events."""

from __future__ import annotations

from dataclasses import dataclass

from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ClassScope

_ENDED = (Status.COMMITTED, Status.FAILED, Status.REJECTED)


@dataclass(frozen=True, kw_only=True)
class RequestStand:
    """Where one request stands.

    Attributes
    ----------
    classes : tuple of int
        The classes that it names; empty for other scopes.
    series : int
        How often it had ended before its last attempts began: 0 unless it was opened again. The number is the same in a
        run that was killed and resumed.
    is_begun : bool
        Whether an attempt of this series has begun.
    is_ended : bool
        Whether the series has ended.
    serves : bool
        Whether the model still serves that served when the series began, or if it has ended, when it ended.
    """

    classes: tuple[int, ...]
    series: int
    is_begun: bool
    is_ended: bool
    serves: bool

    @classmethod
    def of(cls, ledger: Ledger, request_id: str) -> RequestStand:
        """Where a request of a ledger stands."""
        scope = ledger.entry(request_id).request.scope
        ends, begun, ended, committed = 0, 0, 0, ""
        for event in ledger.events(request_id):
            if event.name == Status.UNLEARNING and (ended or not begun):
                begun, ended = event.sequence, 0
            elif event.name == Status.COMMITTING:
                committed = str(event.facts.get("digest"))
            elif event.name in _ENDED:
                ends, ended = ends + 1, event.sequence
                committed = committed if event.name == Status.COMMITTED else ""
        if ended and committed:
            serves = ledger.served_model() == committed
        else:
            serves = not any(event.name == "model-accepted" for event in ledger.events(after=ended or begun))
        return cls(
            classes=scope.classes if isinstance(scope, ClassScope) else (),
            series=ends - bool(ended),
            is_begun=bool(begun),
            is_ended=bool(ended),
            serves=serves,
        )
