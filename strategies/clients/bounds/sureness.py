"""Whether how sure a model is of one client's samples fits what the others' samples of the same classes show."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from fed_unlearn.audits.confidence import LARGEST, UNIT, ClientConfidence, scatter_of
from fed_unlearn.audits.counts import ClientCounts
from fed_unlearn.audits.pooled import Audit
from fed_unlearn.errors import ProtocolError
from fed_unlearn.requests import ClientScope, ForgetRequest
from fed_unlearn.strategies.clients.bounds.plausibility import Deviation
from fed_unlearn.strategies.clients.bounds.shares import scaled_counts

SPREAD = 1.0
"""Standard deviation of how sure a model is of honest clients' samples of one class, beside what chance explains."""


@dataclass(frozen=True)
class Sums:
    """Number, sum and sum of squares of log-odds by class.

    Attributes
    ----------
    total, values, squares : tuple of int
    """

    total: tuple[int, ...]
    values: tuple[int, ...]
    squares: tuple[int, ...]

    def scaled(self, total: int) -> Sums:
        """The sums of so many samples with the same means; as they are where they are of no more."""
        if sum(self.total) <= total:
            return self
        counts = scaled_counts(self.total, total)
        return Sums(counts, _scaled(self.values, self.total, counts), _scaled(self.squares, self.total, counts))


@dataclass(frozen=True)
class SureDeviation(Deviation):
    """How far the log-odds of one client's samples lie from those of the others' samples of the same classes.

    Attributes
    ----------
    mean : float
        Mean log-odds of the client's samples. ``expected`` is what the others' samples predict.
    """

    mean: float = 0.0

    def __str__(self) -> str:
        return (
            f"client {self.client} gives {self.mean:.1f} as mean log-odds of its {self.total} {self.what}, where the"
            f" others' figures of the same classes predict {self.expected:.1f}"
        )


def sure_deviations(audit: Audit, requests: Collection[ForgetRequest]) -> Iterator[Deviation]:
    """How the sums of each client for requests of whole clients compare with those of the others.

    Parameters
    ----------
    audit : Audit
    requests : collection of ForgetRequest
        Requests that are looked at. Those of other scopes are passed over.
    """
    for request in requests:
        if not isinstance(request.scope, ClientScope):
            continue
        counted = {
            client: reply.targets[request.id].confidence
            for client, reply in audit.replies.items()
            if request.id in reply.targets
        }
        yield from _levels(
            "unseen samples",
            {name: Sums(item.unseen_total, item.unseen_sum, item.unseen_squares) for name, item in counted.items()},
        )
        yield from _levels(
            "retained samples",
            {name: Sums(item.staying_total, item.staying_sum, item.staying_squares) for name, item in counted.items()},
        )


def check_sums(sums: ClientConfidence, reply: ClientCounts, class_totals: tuple[int, ...], request_id: str) -> None:
    """Hold the sums of a client for a request against the samples that it counts elsewhere in the same reply.

    Parameters
    ----------
    sums : ClientConfidence
    reply : ClientCounts
        The reply that they are from.
    class_totals : tuple of int
        Number of the client's samples of the request, by class.
    request_id : str

    Raises
    ------
    ProtocolError
        If the sums are of other samples.
    """
    parts = reply.parts
    for what, total, counted in (
        ("of the request", sums.own_total, class_totals),
        ("unseen", sums.unseen_total, parts["validation"].total if "validation" in parts else ()),
        ("retained", sums.staying_total, parts["retain"].total if "retain" in parts else ()),
    ):
        if any(total) and total != counted:
            raise ProtocolError(f"its sums for request {request_id} are not of the {what} samples that it counts")


def fewer_sums(sums: ClientConfidence, unseen: int, staying: int) -> ClientConfidence:
    """The sums as if they were of at most so many unseen and retained samples, with the same means."""
    others = Sums(sums.unseen_total, sums.unseen_sum, sums.unseen_squares).scaled(unseen)
    kept = Sums(sums.staying_total, sums.staying_sum, sums.staying_squares).scaled(staying)
    return replace(
        sums,
        unseen_total=others.total,
        unseen_sum=others.values,
        unseen_squares=others.squares,
        staying_total=kept.total,
        staying_sum=kept.values,
        staying_squares=kept.squares,
    )


def _levels(what: str, sums: Mapping[str, Sums]) -> Iterator[Deviation]:
    """Each client's mean beside those of the others; one that is implausible is not among the others of the next."""
    counted = {client: item for client, item in sums.items() if any(item.total)}
    while len(counted) > 1:
        found = [_level(client, what, counted) for client in counted]
        worst = max(found, key=lambda item: abs(item.score))
        if len(counted) == 2 or not worst.is_implausible:
            yield from found
            return
        yield worst
        del counted[worst.client]


def _scaled(sums: tuple[int, ...], old: tuple[int, ...], new: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(value * now // was if was else 0 for value, was, now in zip(sums, old, new, strict=True))


def _added(sums: list[Sums]) -> Sums:
    total = zip(*(item.total for item in sums), strict=True)
    values = zip(*(item.values for item in sums), strict=True)
    squares = zip(*(item.squares for item in sums), strict=True)
    return Sums(tuple(map(sum, total)), tuple(map(sum, values)), tuple(map(sum, squares)))


def _level(client: str, what: str, sums: Mapping[str, Sums]) -> Deviation:
    own, others = sums[client], _added([item for name, item in sums.items() if name != client])
    total, value, expected, spread = 0, 0.0, 0.0, 0.0
    for index, count in enumerate(own.total):
        if count and others.total[index]:
            total, value = total + count, value + own.values[index]
            expected += count * others.values[index] / others.total[index]
            spread += count + count * count / others.total[index]
    if not total:
        return SureDeviation(client, what, 0, 0, 0.0, 0.0)
    variance = scatter_of(others.total, others.values, others.squares) * spread + (SPREAD * UNIT * total) ** 2
    score = (value - expected) / math.sqrt(variance)
    mean, predicted = (side / total / UNIT - LARGEST for side in (value, expected))
    return SureDeviation(client, what, 0, total, predicted, score, mean)
