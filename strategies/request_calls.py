"""The calls about requests: to submit one, to say which ones a timeline has, and to see how one ended."""

from __future__ import annotations

from collections.abc import Sequence

from flwr.serverapp.strategy import Strategy

from fed_unlearn.ledger import Ledger
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.methods_by_name import check_suits, method_named
from fed_unlearn.strategies.outcomes import RequestOutcome
from fed_unlearn.strategies.timeline import Forget, Train


class RequestCalls:
    """The calls of :class:`~fed_unlearn.strategies.continual.ContinualUnlearning` that take or show a request.

    Attributes
    ----------
    inner : Strategy
        The wrapped strategy.
    ledger : Ledger
        Ledger in which requests are recorded.
    """

    inner: Strategy
    ledger: Ledger

    def submit(self, request: ForgetRequest) -> str:
        """Write a request into the ledger, and return its id; it is served before the next training round.

        Raises
        ------
        InvalidParameterError
            If the request names a method that can serve none where the inner strategy trains.
        """
        self._check_suits(request)
        return self.ledger.receive(request)

    def announce(self, timeline: Sequence[Train | Forget]) -> None:
        """Check the methods of a timeline's requests, and keep their ids for them.

        A request that the ledger has already may name an unknown method: its package may be gone since.

        Parameters
        ----------
        timeline : sequence of Train or Forget

        Raises
        ------
        InvalidParameterError
            If a request names an unknown method, or one that can serve none where the inner strategy trains.
        """
        requests = [request for entry in timeline if isinstance(entry, Forget) for request in entry.requests]
        received = {entry.id for entry in self.ledger.entries()}
        for request in requests:
            if request.method is not None and request.id not in received:
                method_named(request.method)
            self._check_suits(request)
        self.ledger.reserve_ids(request.id for request in requests)

    def outcome(self, request_id: str) -> RequestOutcome | None:
        """How a request ended, from the ledger; None where it has not.

        Raises
        ------
        InvalidRequestError
            If the ledger has no such request.
        """
        entry = self.ledger.entry(request_id)
        return RequestOutcome.from_json(entry.request, entry.outcome) if entry.outcome is not None else None

    def _check_suits(self, request: ForgetRequest) -> None:
        if request.method is not None:
            check_suits(request.method, type(self.inner))
