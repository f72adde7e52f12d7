"""The figures of requests: of the served model, of the candidate after its unlearn round, and at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fed_unlearn.arrays import Arrays, pack
from fed_unlearn.audits.figures import Figures
from fed_unlearn.audits.pooled import Audit, Measured
from fed_unlearn.ledger import Ledger
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.clients.audit import Auditor
from fed_unlearn.strategies.serving.attempt import Attempt
from fed_unlearn.strategies.serving.memory import RequestMemory
from fed_unlearn.strategies.state import ServedModel

Memories = Mapping[str, RequestMemory]
"""By request."""


@dataclass(frozen=True)
class Measuring:
    """Audits models, and writes figures into what is remembered of requests.

    Attributes
    ----------
    auditor : Auditor
    ledger : Ledger
    served : ServedModel
    """

    auditor: Auditor
    ledger: Ledger
    served: ServedModel

    def audit(self, attempt: Attempt) -> Audit:
        """Audit of an attempt's candidate: its requests, and all committed ones."""
        earlier = [entry.request for entry in self.ledger.committed() if entry.id not in attempt.order.ids]
        audit = self._audit(attempt.candidate, [*earlier, *attempt.requests])
        self.keep_comparable(audit)
        return audit

    def audit_of(self, arrays: Arrays) -> Audit:
        """Audit of a model, with all committed requests."""
        return self._audit(arrays, [entry.request for entry in self.ledger.committed()])

    def keep_comparable(self, audit: Audit) -> None:
        """Audit the served model anew where none of the clients that answer now did so before: nothing compares else.

        Raises
        ------
        NobodyAnsweredError
            If no client answers.
        """
        known = self.served.audit
        if known is not None and not set(known.replies) & set(audit.replies):
            self.served.audit = self.audit_of(self.served.arrays).without_targets()

    def note_before(self, attempt: Attempt, memories: Memories) -> None:
        """Figures of the served model; what a class request does not change is taken from its last audit."""
        requests = [request for request in attempt.requests if memories[request.id].before is None]
        if not requests:
            return
        forgotten = self.ledger.forgotten_classes()
        if self.served.audit is not None and attempt.order.scope == "class":
            record = pack(self.served.arrays)
            target = self.auditor.audit(record, requests, ("test",), arrived=self.served.arrived)
            measured = Measured(self.served.audit, forgotten)
        else:
            target = self._audit(self.served.arrays, requests)
            measured = Measured(target, forgotten)
            if self.served.audit is None:
                self.served.audit = target.without_targets()
        for request in requests:
            memories[request.id].before = measured.figures(request, target)

    def note_unlearned(self, attempt: Attempt, memories: Memories, audit: Audit) -> None:
        """Figures of the candidate after its first unlearn round; kept over further attempts."""
        for request in attempt.requests:
            memory = memories[request.id]
            memory.unlearned = memory.unlearned or self._figures(attempt, audit, request)

    def note_after(self, attempt: Attempt, memories: Memories, audit: Audit) -> None:
        """Figures of the candidate that the gate decides on."""
        for request in attempt.requests:
            memories[request.id].after = self._figures(attempt, audit, request)

    def _audit(self, arrays: Arrays, requests: list[ForgetRequest]) -> Audit:
        return self.auditor.audit(pack(arrays), requests, arrived=self.served.arrived)

    def _figures(self, attempt: Attempt, audit: Audit, request: ForgetRequest) -> Figures:
        return Measured(audit, {*self.ledger.forgotten_classes(), *attempt.order.excluded_classes}).figures(request)
