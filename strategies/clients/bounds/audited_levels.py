"""Whether what one client counts for audits of a request fits what the others count for them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from fed_unlearn.audits.accuracy import ClassCounts
from fed_unlearn.audits.base import RequestAudit
from fed_unlearn.audits.pooled import Audit
from fed_unlearn.audits.sides import Compared
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.clients.bounds.plausibility import Deviation, level_of


@dataclass(frozen=True)
class ScatteredDeviation(Deviation):
    """How far several shares of one client lie from those of the others, together: by the sum of squared scores."""

    def __str__(self) -> str:
        return (
            f"client {self.client} counts {self.total} samples as {self.what}, and their shares are"
            f" {self.score:.1f} standard deviations further from the others' than chance puts them"
        )


def audited_deviations(audit: Audit, requests: Collection[ForgetRequest]) -> Iterator[Deviation]:
    """How what each client counts for audits of requests compares with what the others count.

    Parameters
    ----------
    audit : Audit
    requests : collection of ForgetRequest
        Those that a verdict depends on.
    """
    for request in requests:
        counted = {
            client: reply.targets[request.id].extra
            for client, reply in audit.replies.items()
            if request.id in reply.targets
        }
        for name in sorted({name for extra in counted.values() for name in extra}):
            yield from _deviations(request, {client: extra[name] for client, extra in counted.items() if name in extra})


def _deviations(request: ForgetRequest, counted: Mapping[str, RequestAudit]) -> Iterator[Deviation]:
    for client, own in counted.items():
        others = [audit for name, audit in counted.items() if name != client]
        if not others:
            return
        for item in own.compared(sum(others[1:], start=others[0])):
            yield _deviation(client, f"{item.what}, for request {request.id}", item)


def _deviation(client: str, what: str, item: Compared) -> Deviation:
    """The deviation of one share; of several, how far their squared scores exceed a chi-squared distribution's mean.

    Shares that lie closer together than chance puts them are no deviation.
    """
    columns = zip(item.hits, item.total, item.others_hits, item.others_total, strict=True)
    found = [
        level_of(client, what, ClassCounts((hits,), (total,)), ClassCounts((others,), (others_total,)))
        for hits, total, others, others_total in columns
    ]
    if len(found) == 1:
        return found[0]
    squares, count = sum(one.score**2 for one in found), len(found)
    correct, total = sum(one.correct for one in found), sum(one.total for one in found)
    score = max(0.0, squares - count) / math.sqrt(2 * count)
    return ScatteredDeviation(client, what, correct, total, sum(one.expected for one in found), score)
