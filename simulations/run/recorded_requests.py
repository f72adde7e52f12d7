"""One request in ``results.json``: from its outcome, its oracle and its views."""

from __future__ import annotations

from dataclasses import replace

from fed_unlearn.class_names import ClassNames
from fed_unlearn.ledger import LedgerEntry
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.scopes import classes_named
from fed_unlearn.simulations.run.results import RequestResult
from fed_unlearn.simulations.run.views.view_results import RequestViews
from fed_unlearn.strategies.outcomes import OracleOutcome, RequestOutcome


def request_result(outcome: RequestOutcome, names: ClassNames) -> RequestResult:
    """A request that has ended, as far as its outcome tells."""
    return RequestResult(
        labels=_labels(outcome.request, names),
        id=outcome.request.id,
        scope=outcome.request.scope.kind,
        target=outcome.request.target(),
        method=outcome.method,
        status=str(outcome.status),
        attempts=outcome.attempts,
        reason=outcome.reason,
        before=outcome.before,
        unlearned=outcome.unlearned,
        after=outcome.after,
        as_trained=outcome.as_trained,
        seconds=outcome.seconds,
        passes=outcome.traffic.passes,
        passes_by_part=outcome.traffic.passes_by_part,
        messages=outcome.traffic.messages,
        bytes_sent=outcome.traffic.bytes_sent,
        bytes_received=outcome.traffic.bytes_received,
        witnesses=outcome.witnesses,
        evidence=str(outcome.evidence) if outcome.evidence is not None else None,
        goal=outcome.goal,
        checks=outcome.checks,
        left_out=outcome.left_out,
    )


def waiting_result(entry: LedgerEntry, method: str, names: ClassNames) -> RequestResult:
    """A request that has not ended."""
    return RequestResult(
        id=entry.id,
        scope=entry.request.scope.kind,
        target=entry.request.target(),
        method=method,
        status=str(entry.status),
        attempts=entry.attempt,
        reason=entry.reason,
        labels=_labels(entry.request, names),
        submitted=entry.received,
    )


def with_known_oracle(item: RequestResult, known: RequestResult | None) -> RequestResult:
    """A request with the oracle that its earlier result has, if there is one."""
    if known is None:
        return item
    return replace(item, oracle=known.oracle, oracle_seconds=known.oracle_seconds, oracle_passes=known.oracle_passes)


def with_oracle(item: RequestResult, oracle: OracleOutcome, shared: int) -> RequestResult:
    """Add an oracle's figures to a request, with the request's share of the oracle's cost."""
    return replace(
        item,
        oracle=oracle.figures,
        oracle_seconds=oracle.seconds / shared,
        oracle_passes=oracle.traffic.passes // shared,
    )


def with_views(item: RequestResult, views: RequestViews | None) -> RequestResult:
    """A request with its views; an oracle's alone with its figures: a run may be killed between these."""
    return replace(item, views=views if views is None or item.oracle is not None else views.without_oracle())


def _labels(request: ForgetRequest, names: ClassNames) -> tuple[str, ...]:
    """What the data calls the classes that a request names; none where nobody has said it."""
    return tuple(names.labels(classes_named(request.scope))) if names.names else ()
