"""From audits to figures and to a verdict on each request that was served together."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from fed_unlearn.arrays import all_finite
from fed_unlearn.audits.counts import Part, RequestCounts
from fed_unlearn.audits.pooled import Audit, classes_of, evidence_of, forget_accuracy
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.evidence import NOTHING_KEPT
from fed_unlearn.gate import Decision, Evidence, Gate, GateCheck, Verdict
from fed_unlearn.gate.checks import checks_of
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.clients.audit import Auditor, limits_of
from fed_unlearn.strategies.clients.bounds.plausibility import implausible_clients
from fed_unlearn.strategies.clients.bounds.sureness import sure_deviations
from fed_unlearn.strategies.clients.claims import already_forgotten
from fed_unlearn.strategies.clients.rounds import client_of
from fed_unlearn.strategies.context import CallContext
from fed_unlearn.strategies.methods_by_name import is_server_method, new_method
from fed_unlearn.strategies.outcomes import RequestProgress
from fed_unlearn.strategies.plan import UnlearningPlan
from fed_unlearn.strategies.server_methods.registry import SERVER_METHODS
from fed_unlearn.strategies.serving.attempts.attempt import Attempt


@dataclass(frozen=True)
class Judgement:
    """What is done with a candidate that serves several requests.

    Attributes
    ----------
    decisions : dict of str to Decision
        Decisions by request. Requests that are not accepted while others are have not been forgotten enough.
    lost_too_much : bool
        Whether it is the retained accuracy that fails, which all of them share.
    checks : dict of str to tuple of GateCheck
        What the gate looked at, by request.
    """

    decisions: Mapping[str, Decision]
    lost_too_much: bool
    checks: Mapping[str, tuple[GateCheck, ...]] = field(default_factory=dict)

    @property
    def accepted(self) -> tuple[str, ...]:
        """Requests whose part of the candidate is accepted."""
        return tuple(name for name, decision in self.decisions.items() if decision.verdict is Verdict.ACCEPT)

    @property
    def not_accepted(self) -> dict[str, Decision]:
        """What is done with the others."""
        return {name: item for name, item in self.decisions.items() if item.verdict is not Verdict.ACCEPT}

    @property
    def repairs(self) -> bool:
        """Whether the candidate is to be repaired once more."""
        return any(decision.verdict is Verdict.REPAIR for decision in self.decisions.values())


Progress = Mapping[str, RequestProgress]
"""Progress of each request, by request."""


def audit_unlearned(attempt: Attempt) -> Audit:
    """Audit of an attempt's candidate that is to be repaired before anything is decided: of a sample alone.

    Raises
    ------
    NobodyAnsweredError, HoldersAwayError, HoldersFailedError
        If :func:`audit_candidate` would raise it.
    """
    context = attempt.context
    context.tell("audit", "audit before repair", attempt.order.requests[0])
    audit = Auditor(context).audit(attempt.candidate, attempt.requests, most=context.plan.unlearned_limit)
    attempt.check_audited(audit.replies, audit.failed, audit.silent)
    return audit


def audit_candidate(attempt: Attempt, means: Mapping[int, Collection[int]] | None = None) -> Audit:
    """Audit of an attempt's candidate, with its requests and all committed ones.

    Parameters
    ----------
    attempt : Attempt
    means : mapping of int to collection of int, optional
        Classes whose output rows alone were set since the last audit, as in :meth:`Auditor.audit`.

    Raises
    ------
    NobodyAnsweredError
        If no client answers.
    HoldersAwayError, HoldersFailedError
        If no holder of one of its requests says how well its samples are forgotten.
    """
    context, order = attempt.context, attempt.order
    what = "audit with the output rows set" if means else "audit of the candidate"
    context.tell("audit", what, order.requests[0])
    earlier = [entry.request for entry in context.ledger.committed() if entry.id not in order.ids]
    auditor = Auditor(context)
    audit = auditor.audit(attempt.candidate, [*earlier, *attempt.requests], audited=attempt.requests, means=means)
    auditor.keep_comparable(audit)
    attempt.check_audited(audit.replies, audit.failed, audit.silent)
    return audit


def note_before(attempt: Attempt, progress: Progress) -> None:
    """Note the figures of the served model; what a class request does not change comes from its last audit."""
    for request in attempt.requests:
        if (earlier := progress[request.id].evidence_before) is not None:
            attempt.before[request.id] = earlier
        done = already_forgotten(attempt.context.grid.roster, request)
        progress[request.id].already_forgotten = done
    requests = [request for request in attempt.requests if progress[request.id].before is None]
    if not requests:
        return
    served, auditor = attempt.context.served, Auditor(attempt.context)
    forgotten = attempt.context.ledger.forgotten_classes()
    if served.audit is not None and attempt.order.scope == "class":
        target = auditor.audit(served.arrays, requests, ("test",))
        measured = served.audit
    else:
        target = auditor.audit(served.arrays, requests)
        measured = target
        if served.audit is None:
            served.audit = target.without_targets()
    for request in requests:
        known = progress[request.id]
        known.before = measured.figures(request, forgotten, target, limits=limits_of(attempt.context.plan))
        counts = _sound(target, request, attempt.context).pooled.targets.get(request.id, RequestCounts())
        evidence = evidence_of(NOTHING_KEPT, request.scope.kind, counts, measured.validation())
        known.evidence_before = attempt.before[request.id] = evidence


def _sound(audit: Audit, request: ForgetRequest, context: CallContext) -> Audit:
    """The audit without clients that say of their own samples what those of nobody else show, and that are named."""
    doubted = implausible_clients(sure_deviations(audit, [request]))
    for client, deviation in doubted.items():
        context.grid.name(client, str(deviation).removeprefix(f"client {client} "))
    return audit.without(set(doubted) - {client_of(request)})


def note_unlearned(attempt: Attempt, progress: Progress) -> None:
    """Note the figures of the candidate after its first unlearn round, which are kept over further attempts."""
    if all(known.unlearned is not None for known in progress.values()):
        return
    limits = limits_of(attempt.context.plan, attempt.context.plan.unlearned_limit)
    note_candidate(attempt, progress, audit_unlearned(attempt), limits=limits)


def note_candidate(
    attempt: Attempt,
    progress: Progress,
    audit: Audit,
    *,
    is_last: bool = False,
    with_rows_set: bool = False,
    limits: Mapping[Part, int] | None = None,
) -> None:
    """Note the figures of the candidate: those of the first one are kept over further attempts.

    Parameters
    ----------
    attempt : Attempt
    progress : mapping of str to RequestProgress
    audit : Audit
        Audit of the attempt's candidate.
    is_last : bool
        Whether the gate decides on it.
    with_rows_set : bool
        Whether its output rows have been set since the last look, whose figures are kept as those of the trained model.
    limits : mapping of part to int, optional
        Limits on the samples that the audit read, by part; the plan's if None.
    """
    limits = limits_of(attempt.context.plan) if limits is None else limits
    forgotten = {*attempt.context.ledger.forgotten_classes(), *attempt.order.excluded_classes}
    for request in attempt.requests:
        known = progress[request.id]
        figures = audit.figures(request, forgotten, limits=limits)
        known.unlearned = known.unlearned or figures
        if is_last:
            known.as_trained, known.after = known.after if with_rows_set else None, figures
            known.witnesses = audit.witnesses(request)


@dataclass(frozen=True)
class Judge:
    """The gate, told what a model does.

    Attributes
    ----------
    gate : Gate
        Decides on each request.
    plan : UnlearningPlan
        Says what sample requests want of their samples where they do not.
    """

    gate: Gate
    plan: UnlearningPlan

    def judge(
        self, attempt: Attempt, audit: Audit, forgotten: frozenset[int], methods_left: Mapping[str, int]
    ) -> Judgement:
        """Judge the candidate of an attempt: what it kept jointly, what it forgot request by request.

        Parameters
        ----------
        attempt : Attempt
        audit : Audit
            Audit of the attempt's candidate, with its requests.
        forgotten : frozenset of int
            Classes of committed requests.
        methods_left : mapping of str to int
            Number of methods that may still be tried, by request.
        """
        left_out = forgotten.union(audit.absent_classes, *(classes_of(request) for request in attempt.requests))
        kept = self._kept(attempt, audit, left_out)
        decisions: dict[str, Decision] = {}
        checks: dict[str, tuple[GateCheck, ...]] = {}
        lost_too_much, retrained = False, is_retrained(attempt.method_name)
        for request in attempt.requests:
            name, scope, goal = request.id, request.scope.kind, self.goal_of(request)
            counts = audit.pooled.targets.get(name, RequestCounts())
            evidence = evidence_of(kept, scope, counts, audit.validation(), methods_left.get(name, 0))
            lost = self.gate.kept_too_little(scope, evidence, goal)
            lost_too_much = lost_too_much or bool(lost)
            before, bounds = attempt.before.get(name), self.gate.thresholds(scope, goal)
            checks[name] = checks_of(bounds, scope, evidence, goal, before=before, is_retrained=retrained)
            decisions[name] = self.gate.decide(
                scope,
                replace(evidence, changed=attempt.has_changed(request)),
                goal,
                before=before,
                is_retrained=retrained,
                require_measured=scope in self.plan.require_measured,
            )
        return Judgement(decisions, lost_too_much, checks)

    def after_failure(self, attempt: Attempt, reason: str, methods_left: int, *, unfit: bool = False) -> Decision:
        """What follows an attempt that came to no candidate: as the gate decides, without repair."""
        if not unfit and attempt.order.stronger + 1 < self.gate.max_attempts:
            return Decision(Verdict.RETRY, (reason,))
        return Decision(Verdict.ESCALATE if methods_left else Verdict.ROLL_BACK, (reason,))

    def relapse_of(self, request: ForgetRequest, audit: Audit) -> str | None:
        """Why a committed request would not pass any more; None where it would, or where nobody can tell.

        Where the samples are kept no longer, a class is judged by validation samples of it.
        """
        scope, goal = request.scope.kind, self.goal_of(request)
        accuracy = forget_accuracy(audit, request)
        classes = classes_of(request)
        if accuracy is None and classes:
            counts = audit.validation()
            accuracy = counts.accuracy(only=classes) if counts is not None else None
        bound = self.gate.thresholds(scope, goal).max_forget_accuracy
        if accuracy is None or bound is None or accuracy <= bound:
            return None
        return f"forget accuracy {accuracy:.3f} is over {bound:.3f}"

    def goal_of(self, request: ForgetRequest) -> str | None:
        """What a sample request wants of its samples; None where its method has no such choice."""
        if request.scope.kind != "sample":
            return None
        try:
            parameters = self.plan.parameters_of(request)
            goal = getattr(new_method(self.plan.method_of(request), parameters), "goal", None)
        except InvalidParameterError:  # of a request that was served by another plan
            goal = request.parameters.get("goal")
        return str(goal) if goal is not None else None

    @staticmethod
    def _kept(attempt: Attempt, audit: Audit, left_out: frozenset[int]) -> Evidence:
        served = attempt.context.served
        clients = {client for client, reply in audit.replies.items() if "validation" in reply.parts}
        for known in (served.audit, served.first_audit):
            if known is not None and clients & set(known.replies):
                clients &= set(known.replies)

        def accuracy(of: Audit | None) -> float | None:
            counts = of.validation(clients, by_server=audit.server is not None) if of is not None else None
            return counts.accuracy(without=left_out) if counts is not None else None

        return Evidence(
            forget_accuracy=None,
            retain_accuracy=accuracy(audit),
            accepted_retain_accuracy=accuracy(served.audit),
            first_retain_accuracy=accuracy(served.first_audit),
            finite=all_finite(attempt.candidate),
            repair_rounds=attempt.repair_rounds,
            attempt=attempt.order.stronger + 1,
        )


def is_retrained(method: str) -> bool:
    """Whether a method trains anew without the samples that are forgotten."""
    return is_server_method(method) and SERVER_METHODS.find(method).is_retraining
