"""Earlier requests that a candidate would undo: it fails as one does that has lost too much."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from fed_unlearn.audits.pooled import Audit
from fed_unlearn.evidence import NOTHING_KEPT
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.strategies.serving.attempts.attempt import Attempt
from fed_unlearn.strategies.serving.doubt import relapse_with_doubt, without_figures
from fed_unlearn.strategies.serving.judge import Judge, Judgement, is_retrained
from fed_unlearn.strategies.serving.relapse import relapse_rows


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
        Of its candidate, with all committed requests.
    judgement : Judgement
        On the requests of the attempt.
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
    return Judgement({**judgement.decisions, **refused}, lost_too_much=True)


def undone_by(judge: Judge, attempt: Attempt, audit: Audit, left_out: Collection[str] = ()) -> tuple[str, ...]:
    """In words, which committed requests would count as relapsed with a candidate, and do not with the served model.

    A model that was trained anew without all forgotten samples undoes no request for samples or a client, whatever it
    says of them.
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
    before = rows[-1].relapsed if found and (rows := relapse_rows(ledger)) else ()
    return tuple(f"it would undo request {name}: {reason}" for name, reason in found.items() if name not in before)
