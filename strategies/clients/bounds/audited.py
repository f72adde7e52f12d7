"""What one client counts for audits without a field of their own: of no more samples than it has, and within its share.

An audit says which samples its counts are of (:class:`fed_unlearn.audits.sides.Side`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fed_unlearn.audits.base import RequestAudit
from fed_unlearn.audits.counts import ClientCounts, RequestCounts
from fed_unlearn.audits.pooled import classes_of
from fed_unlearn.audits.sides import Side, SideKind
from fed_unlearn.errors import ProtocolError
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.clients.bounds.shares import bounded_parts, scaled_counts


def samples_of(audit: RequestAudit, side: Side) -> int:
    """How many samples an audit has counted on one side."""
    counted = getattr(audit, side.count)
    return sum(counted) if isinstance(counted, tuple) else int(counted)


def counts_forget_set(counts: RequestCounts) -> bool:
    """Whether an audit has counted samples of D_f, which only a holder can."""
    return any(
        side.kind == "forget" and samples_of(audit, side) for audit in counts.extra.values() for side in audit.sides
    )


def check_sides(counts: RequestCounts, reply: ClientCounts, request: ForgetRequest) -> None:
    """Hold the samples that audits have counted against those that the client counts elsewhere in the same reply.

    Parameters
    ----------
    counts : RequestCounts
        Counts of the client's reply for the request.
    reply : ClientCounts
        The reply that they are from.
    request : ForgetRequest

    Raises
    ------
    ProtocolError
        If an audit has counted more.
    """
    most = _samples_by_kind(counts, reply, classes_of(request))
    for name, audit in counts.extra.items():
        for side in audit.sides:
            counted = samples_of(audit, side)
            if counted > most[side.kind]:
                raise ProtocolError(
                    f"audit {name} of request {request.id} counts {counted} samples ({side.count}), and it has at most"
                    f" {most[side.kind]}"
                )


def bounded_extra(
    targets: Mapping[str, RequestCounts], share: float, scaled: Mapping[str, bool]
) -> dict[str, dict[str, RequestAudit]]:
    """What audits have counted, no client's part of any side larger than its share.

    Parameters
    ----------
    targets : mapping of str to RequestCounts
        Counts by client, for one request.
    share : float
        Largest share that a part may have, as in :func:`fed_unlearn.strategies.clients.bounds.shares.bounded_parts`.
    scaled : mapping of str to bool
        Whether a client's other counts exceed its share, by client. What an audit without sides counts there is left
        out.

    Returns
    -------
    dict of str to dict of str to RequestAudit
        Counted audits by client and audit.
    """
    bounded = {client: dict(counts.extra) for client, counts in targets.items()}
    for name in {name for counts in targets.values() for name in counts.extra}:
        counted = {client: counts.extra[name] for client, counts in targets.items() if name in counts.extra}
        sides = next(iter(counted.values())).sides
        if not sides:
            for client in counted:
                if scaled[client]:
                    del bounded[client][name]
        for side in sides:
            totals = bounded_parts({client: samples_of(audit, side) for client, audit in counted.items()}, share)
            for client, total in totals.items():
                bounded[client][name] = _fewer(bounded[client][name], side, total)
    return bounded


def _samples_by_kind(counts: RequestCounts, reply: ClientCounts, classes: Sequence[int]) -> Mapping[SideKind, int]:
    named: dict[str, int] = {}
    others: dict[str, int] = {}
    for part in ("test", "validation"):
        total = reply.parts[part].total if part in reply.parts else ()
        named[part] = sum(total[index] for index in classes if index < len(total))
        others[part] = sum(total) - named[part]
    return {
        "forget": counts.hits.total,
        "test_forget": named["test"],
        "test_retain": others["test"],
        "held_out": named["validation"] or counts.hits.total,
        "held_out_retain": others["validation"],
    }


def _fewer(audit: RequestAudit, side: Side, total: int) -> RequestAudit:
    """The audit as if one side were of at most so many samples, in the same proportions."""
    before = samples_of(audit, side)
    if total >= before:
        return audit
    counted = getattr(audit, side.count)
    fields: dict[str, object] = {name: _scaled(getattr(audit, name), total, before) for name in side.sums}
    fields[side.count] = scaled_counts(counted, total) if isinstance(counted, tuple) else total
    return replace(audit, **fields)


def _scaled(summed: int | tuple[int, ...], total: int, before: int) -> int | tuple[int, ...]:
    if isinstance(summed, tuple):
        return scaled_counts(summed, sum(summed) * total // before)
    return summed * total // before
