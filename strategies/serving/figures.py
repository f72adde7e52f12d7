"""The figures of requests: of the served model, of the candidate after its unlearn round, and of the one judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fed_unlearn.arrays import Arrays, pack
from fed_unlearn.audits.pooled import Audit, Measured
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.clients.audit import Auditor
from fed_unlearn.strategies.context import CallContext
from fed_unlearn.strategies.outcomes import RequestProgress
from fed_unlearn.strategies.serving.attempt import Attempt

Progress = Mapping[str, RequestProgress]
"""By request."""


@dataclass(frozen=True)
class Measuring:
    """Audits models, and writes figures into the progress of requests.

    Attributes
    ----------
    context : CallContext
        What the call works with.
    """

    context: CallContext

    def audit(self, attempt: Attempt) -> Audit:
        """Audit of an attempt's candidate, with its requests and all committed ones.

        Raises
        ------
        NobodyAnsweredError
            If no client answers.
        HoldersAwayError, HoldersFailedError
            If no holder of one of its requests says how well its samples are forgotten.
        """
        self.context.tell("audit", "audit of the candidate", attempt.order.requests[0])
        ids = attempt.order.ids
        earlier = [entry.request for entry in self.context.ledger.committed() if entry.id not in ids]
        audit = self._audit(attempt.candidate, [*earlier, *attempt.requests])
        self.keep_comparable(audit)
        attempt.check_audited(audit.replies, audit.failed, audit.silent)
        return audit

    def audit_of(self, arrays: Arrays) -> Audit:
        """Audit of a model, with all committed requests."""
        return self._audit(arrays, [entry.request for entry in self.context.ledger.committed()])

    def keep_comparable(self, audit: Audit) -> None:
        """Audit the served model anew where no client that answers now did so before: nothing could be compared.

        Raises
        ------
        NobodyAnsweredError
            If no client answers.
        """
        served = self.context.served
        if served.audit is not None and not set(served.audit.replies) & set(audit.replies):
            served.audit = self.audit_of(served.arrays).without_targets()

    def note_before(self, attempt: Attempt, progress: Progress) -> None:
        """Note the figures of the served model; what a class request does not change comes from its last audit."""
        requests = [request for request in attempt.requests if progress[request.id].before is None]
        if not requests:
            return
        served, forgotten = self.context.served, self.context.ledger.forgotten_classes()
        if served.audit is not None and attempt.order.scope == "class":
            target = self._auditor.audit(pack(served.arrays), requests, ("test",), arrived=served.arrived)
            measured = Measured(served.audit, forgotten)
        else:
            target = self._audit(served.arrays, requests)
            measured = Measured(target, forgotten)
            if served.audit is None:
                served.audit = target.without_targets()
        for request in requests:
            progress[request.id].before = measured.figures(request, target)

    def note_candidate(self, attempt: Attempt, progress: Progress, audit: Audit, *, is_last: bool = False) -> None:
        """Note the figures of the candidate: after its first unlearn round, and when the gate decides on it.

        The former are kept over further attempts.
        """
        forgotten = {*self.context.ledger.forgotten_classes(), *attempt.order.excluded_classes}
        measured = Measured(audit, forgotten)
        for request in attempt.requests:
            known = progress[request.id]
            figures = measured.figures(request)
            known.unlearned = known.unlearned or figures
            if is_last:
                known.after = figures

    @property
    def _auditor(self) -> Auditor:
        context = self.context
        return Auditor(context.grid, context.timeout, context.plan.retain_limit, context.seed)

    def _audit(self, arrays: Arrays, requests: list[ForgetRequest]) -> Audit:
        return self._auditor.audit(pack(arrays), requests, arrived=self.context.served.arrived)
