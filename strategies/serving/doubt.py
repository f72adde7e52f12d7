"""Verdicts that rest on one client's figures alone: they are not taken where the figures are implausible."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from fed_unlearn.audits.pooled import Audit, classes_of
from fed_unlearn.gate import Decision, Verdict
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.clients.bounds.plausibility import Deviation, deviations, doubted_clients
from fed_unlearn.strategies.clients.bounds.sureness import sure_deviations
from fed_unlearn.strategies.serving.attempts.attempt import Attempt
from fed_unlearn.strategies.serving.judge import Judge, Judgement

logger = logging.getLogger("fed_unlearn.strategies")


def judge_with_doubt(
    judge: Judge,
    attempt: Attempt,
    audit: Audit,
    forgotten: frozenset[int],
    methods_left: Mapping[str, int],
    *,
    left_out: Collection[str] = (),
) -> Judgement:
    """Judge a candidate; a request is held where one client's implausible figures alone turn its verdict.

    A candidate that is to be repaired is judged again later, so that nothing is held before.

    Parameters
    ----------
    judge : Judge
    attempt : Attempt
    audit : Audit
        Audit of the attempt's candidate, with its requests.
    forgotten : frozenset of int
        Classes of committed requests.
    methods_left : mapping of str to int
        Methods that may still be tried, by request.
    left_out : collection of str
        Clients whose figures somebody has decided to leave out: a request was held for them, and approved.
    """
    for client in left_out:
        audit = without_figures(audit, client)
    judgement = judge.judge(attempt, audit, forgotten, methods_left)
    if judgement.repairs:
        return judgement
    left_out_classes = forgotten.union(audit.absent_classes, *(classes_of(request) for request in attempt.requests))

    def compared(seen: Audit) -> Iterator[Deviation]:
        yield from deviations(seen, attempt.context.served.audit, attempt.requests, without=left_out_classes)
        yield from sure_deviations(seen, attempt.requests)

    decisions = dict(judgement.decisions)
    for client, deviation in doubted_clients(audit, compared).items():
        others = judge.judge(attempt, without_figures(audit, client), forgotten, methods_left)
        for name in decisions:
            accepts = name in others.accepted
            if decisions[name].verdict is Verdict.HOLD or (name in judgement.accepted) is accepts:
                continue
            reason = (
                f"{deviation}; without client {client}'s figures it is {'' if accepts else 'not '}accepted; approve it"
                " to have it judged without them, or withdraw it"
            )
            decisions[name] = Decision(Verdict.HOLD, (reason,), (client,))
    return replace(judgement, decisions=decisions)


def relapse_with_doubt(judge: Judge, request: ForgetRequest, audit: Audit) -> str | None:
    """Why a committed request would not pass any more; None where one client's implausible figures alone say so."""
    reason = judge.relapse_of(request, audit)
    if reason is None:
        return None
    for client, deviation in doubted_clients(audit, lambda seen: deviations(seen, None, [request])).items():
        if judge.relapse_of(request, without_figures(audit, client)) is None:
            logger.warning("request %s is not taken as relapsed: %s", request.id, deviation)
            return None
    return reason


def without_figures(audit: Audit, client: str) -> Audit:
    """The audit without what a client says of others' requests and of retained data.

    What it alone can say, of requests that nobody else holds samples of, stays.
    """
    reply = audit.replies.get(client)
    if reply is None:
        return audit
    others = audit.without([client]).pooled.targets
    alone = {
        name: counts for name, counts in reply.targets.items() if name not in others or not others[name].hits.total
    }
    return replace(audit, replies={**audit.replies, client: replace(reply, parts={}, targets=alone)})
