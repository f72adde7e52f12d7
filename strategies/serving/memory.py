"""What is remembered of a request between its attempts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from fed_unlearn.audits.figures import Figures
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.clients.exchange import Traffic
from fed_unlearn.strategies.outcomes import RequestOutcome
from fed_unlearn.strategies.serving.attempt import Attempt
from fed_unlearn.strategies.state import DurableState


@dataclass
class RequestMemory:
    """Figures and cost so far, and how the next attempt is to be made.

    Attributes
    ----------
    request_id : str
    method_index : int
        Of the method in use, among those that may be tried.
    tries : int
        Attempts by that method so far.
    alone : bool
        Whether it is served by itself: together with others too much was lost.
    before, unlearned, after : Figures or None
    repair_rounds : int
        Of the last attempt.
    seconds : float
    traffic : Traffic
    """

    request_id: str
    method_index: int = 0
    tries: int = 0
    alone: bool = False
    before: Figures | None = None
    unlearned: Figures | None = None
    after: Figures | None = None
    repair_rounds: int = 0
    seconds: float = 0.0
    traffic: Traffic = field(default_factory=Traffic)

    @classmethod
    def load(cls, state: DurableState, request_id: str) -> RequestMemory:
        """Of a request, as it was last saved; empty where it was not."""
        body: dict[str, Any] = dict(state.request(request_id))
        for name in ("before", "unlearned", "after"):
            if body.get(name) is not None:
                body[name] = Figures(**body[name])
        if "traffic" in body:
            body["traffic"] = Traffic(**body["traffic"])
        return cls(**{"request_id": request_id, **body})

    def save(self, state: DurableState) -> None:
        """Write it down."""
        state.save_request(self.request_id, asdict(self))

    def try_again(self, *, another_method: bool) -> None:
        """Prepare the next attempt: by the same method with a stronger setting, or by the next one."""
        if another_method:
            self.method_index, self.tries = self.method_index + 1, 0
        else:
            self.tries += 1

    def outcome(
        self, request: ForgetRequest, status: Status, attempt: Attempt | None, reason: str | None
    ) -> RequestOutcome:
        """How the request ended, with what is remembered of it."""
        return RequestOutcome(
            request=request,
            method=attempt.order.method if attempt is not None else "",
            status=status,
            attempts=attempt.order.number if attempt is not None else 0,
            repair_rounds=self.repair_rounds,
            reason=reason,
            before=self.before,
            unlearned=self.unlearned,
            after=self.after,
            seconds=self.seconds,
            traffic=self.traffic,
        )
