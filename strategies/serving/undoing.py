"""Earlier requests that a candidate would undo: it fails as one does that has lost too much."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from fed_unlearn.audits.pooled import Audit
from fed_unlearn.evidence import NOTHING_KEPT
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.strategies.clients.audit import Auditor
from fed_unlearn.strategies.context import CallContext
from fed_unlearn.strategies.serving.attempts.attempt import Attempt
from fed_unlearn.strategies.serving.doubt import relapse_with_doubt, without_figures
from fed_unlearn.strategies.serving.judge import Judge, Judgement, is_retrained
from fed_unlearn.strategies.serving.relapse import relapse_rows
from fed_unlearn.strategies.state import looks_due


def judged_beside_earlier(
    judge: Judge,
    attempt: Attempt,
    audit: Audit,
    judgement: Judgement,
    methods_left: Mapping[str, int],
    *,
    left_out: Collection[str] = (),
) -> Judgement:
    """The judgement, where nothing that would undo an earlier request is accepted: it is repaired, tried again or ends.

    Parameters
    ----------
    judge : Judge
    attempt : Attempt
    audit : Audit
        Audit of the attempt's candidate, with all committed requests.
    judgement : Judgement
        Judgement on the requests of the attempt.
    methods_left : mapping of str to int
        Methods that may still be tried, by request.
    left_out : collection of str
        Clients whose figures somebody has decided to leave out.
    """
    if not judgement.accepted or not (reasons := undone_by(judge, attempt, audit, left_out)):
        return judgement
    tries = replace(NOTHING_KEPT, repair_rounds=attempt.repair_rounds, attempt=attempt.order.stronger + 1)
    refused = {
        name: judge.gate.verdict(replace(tries, methods_left=methods_left.get(name, 0)), reasons)
        for name in judgement.accepted
    }
    return replace(judgement, decisions={**judgement.decisions, **refused}, lost_too_much=True)


def undone_by(judge: Judge, attempt: Attempt, audit: Audit, left_out: Collection[str] = ()) -> tuple[str, ...]:
    """In words, which committed requests would count as relapsed with a candidate, and do not with the served model.

    A model that was trained anew without all forgotten samples undoes no request for samples or a client, whatever it
    says of them.

    Parameters
    ----------
    judge : Judge
    attempt : Attempt
    audit : Audit
        Audit of the attempt's candidate, with all committed requests.
    left_out : collection of str
        Clients whose figures somebody has decided to leave out.

    Returns
    -------
    tuple of str
        A reason for each of these requests.

    Raises
    ------
    NobodyAnsweredError
        If the served model has to be audited for it, and no client answers.
    """
    for client in left_out:
        audit = without_figures(audit, client)
    ledger, is_anew = attempt.context.ledger, is_retrained(attempt.method_name)
    found = {
        entry.id: reason
        for entry in ledger.committed()
        if entry.status is Status.COMMITTED
        and entry.id not in attempt.order.ids
        and not (is_anew and entry.request.scope.kind != "class")
        and (reason := relapse_with_doubt(judge, entry.request, audit)) is not None
    }
    before = relapsed_before(judge, attempt.context, left_out) if found else ()
    return tuple(f"it would undo request {name}: {reason}" for name, reason in found.items() if name not in before)


def relapsed_before(judge: Judge, context: CallContext, left_out: Collection[str] = ()) -> Collection[str]:
    """The committed requests that count as relapsed with the served model.

    The last look at them says so. Where one is due, as after a crash, what serves now was looked at by nobody, and it
    is audited here.

    Parameters
    ----------
    judge : Judge
    context : CallContext
    left_out : collection of str
        Clients whose figures somebody has decided to leave out.

    Raises
    ------
    NobodyAnsweredError
        If the model has to be audited, and no client answers.
    """
    rows = relapse_rows(context.ledger)
    if rows and not looks_due(context.ledger):
        return rows[-1].relapsed
    audit = Auditor(context).audit_committed(context.served.arrays)
    for client in left_out:
        audit = without_figures(audit, client)
    requests = [entry.request for entry in context.ledger.committed() if entry.status is Status.COMMITTED]
    return tuple(request.id for request in requests if relapse_with_doubt(judge, request, audit) is not None)
