"""From a candidate that has unlearned to the one that is committed: repair, audits, the gate, and the output rows."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from fed_unlearn.audits.pooled import Audit
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.output_rows import with_mean_rows
from fed_unlearn.strategies.serving.attempts.attempt import Attempt
from fed_unlearn.strategies.serving.commit import Conclusion
from fed_unlearn.strategies.serving.doubt import judge_with_doubt
from fed_unlearn.strategies.serving.judge import (
    Judge,
    Judgement,
    Progress,
    audit_candidate,
    note_candidate,
    note_unlearned,
)
from fed_unlearn.strategies.serving.output_rows import agreed_rows, means_of
from fed_unlearn.strategies.serving.undoing import judged_beside_earlier

logger = logging.getLogger("fed_unlearn.strategies")


@dataclass(frozen=True)
class Mending:
    """Repairs the candidate of an attempt until the gate accepts it or gives it up.

    What is committed of a class request is not the candidate as it was trained: the output rows of its classes are set
    to the mean of the retained ones. With such rows nobody calls anything by the class, whatever the model still knows
    of it. So the gate judges both, and both must be accepted.

    Attributes
    ----------
    judge : Judge
    methods_left : callable
        Gives the number of methods that may still be tried for a request.
    """

    judge: Judge
    methods_left: Callable[[str], int]

    def mend(self, attempt: Attempt, progress: Progress) -> Conclusion:
        """Repair as planned, and then until the gate decides.

        Parameters
        ----------
        attempt : Attempt
            An attempt that has unlearned; its candidate is changed.
        progress : mapping of str to RequestProgress
            Progress by request; what was found is noted in it.

        Returns
        -------
        Conclusion
            The audit of the candidate where a request is accepted, and the decisions on those that are not.

        Raises
        ------
        AttemptFailedError
            If a round of repair fails.
        NobodyAnsweredError
            If no client answers.
        """
        self._repair_as_planned(attempt, progress)
        while True:
            self._advance(attempt, Status.AUDITING)
            audit = audit_candidate(attempt)
            judgement = self._judged(attempt, audit, progress)
            note_candidate(attempt, progress, audit, is_last=not judgement.repairs)
            if judgement.accepted and not judgement.repairs:
                judgement, audit = self._with_rows_set(attempt, progress, judgement, audit)
            if not judgement.repairs:
                decisions = attempt.explained(judgement.decisions, progress)
                return _conclusion(replace(judgement, decisions=decisions), audit)
            reasons = "; ".join(dict.fromkeys(item.reason for item in judgement.decisions.values() if item.reason))
            attempt.say(f"repair more: {reasons}")
            self._repair(attempt)

    def _repair_as_planned(self, attempt: Attempt, progress: Progress) -> None:
        plan = attempt.context.plan
        planned = {"class": plan.repair.rounds, "sample": plan.repair.alternations}.get(attempt.order.scope, 0)
        if planned and attempt.repairs_by_plan:
            note_unlearned(attempt, progress)
            for _ in range(planned):
                self._repair(attempt)

    def _repair(self, attempt: Attempt) -> None:
        self._advance(attempt, Status.REPAIRING)
        attempt.repair()

    def _advance(self, attempt: Attempt, status: Status) -> None:
        ids = [request.id for request in attempt.requests]
        attempt.context.ledger.advance_all(ids, status, attempt=attempt.order.number)

    def _judged(self, attempt: Attempt, audit: Audit, progress: Progress) -> Judgement:
        ledger = attempt.context.ledger
        left = {request.id: self.methods_left(request.id) for request in attempt.requests}
        doubted = {client for known in progress.values() for client in known.left_out}
        judgement = judge_with_doubt(
            self.judge, attempt, audit, ledger.forgotten_classes(), left, left_out=sorted(doubted)
        )
        judgement = judged_beside_earlier(self.judge, attempt, audit, judgement, left, left_out=doubted)
        for name, decision in judgement.decisions.items():
            told = decision.reason or f"all met, {decision.known}"
            logger.info("request %s: %s: %s", name, decision.verdict.value, told)
            progress[name].evidence = decision.known
            progress[name].checks = judgement.checks.get(name, ())
        return judgement

    def _with_rows_set(
        self, attempt: Attempt, progress: Progress, trained: Judgement, audit: Audit
    ) -> tuple[Judgement, Audit]:
        """What both judgements come to, and the audit of what is committed; the candidate is that, unless repaired."""
        means = means_of(attempt, trained.accepted)
        rows = agreed_rows(attempt.context) if means else None
        for name in trained.accepted:
            progress[name].keeps_rows = bool(means) and rows is None
        if rows is None:
            return trained, audit
        before, attempt.candidate = attempt.candidate, with_mean_rows(attempt.candidate, rows, means)
        audit = audit_candidate(attempt, means)
        judgement = self._judged(attempt, audit, progress)
        note_candidate(attempt, progress, audit, is_last=True, with_rows_set=True)
        refused = {name: item for name, item in judgement.not_accepted.items() if name in trained.accepted}
        both = Judgement({**trained.decisions, **refused}, trained.lost_too_much or judgement.lost_too_much)
        if both.repairs:
            attempt.candidate = before
        return both, audit


def _conclusion(judgement: Judgement, audit: Audit) -> Conclusion:
    accepted, decisions = audit if judgement.accepted else None, judgement.not_accepted
    return Conclusion(accepted, decisions, split=judgement.lost_too_much and len(decisions) > 1)
