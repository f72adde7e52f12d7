"""Whether one client's figures fit those of the others: the same classes, compared by class."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from fed_unlearn.audits.accuracy import ClassCounts
from fed_unlearn.audits.pooled import Audit
from fed_unlearn.requests import ForgetRequest

LARGEST_DEVIATION = 3.0
"""Figures further from what the others' figures predict, in standard deviations, are implausible."""

_FEWEST = 2

SPREAD = 0.05
"""Standard deviation of how well honest clients know one class, beside what the number of samples explains."""


@dataclass(frozen=True)
class Deviation:
    """How far one client's figures lie from what the others' figures of the same classes predict.

    Attributes
    ----------
    client : str
    what : str
        What was counted, for instance ``"right validation samples"``.
    correct, total : int
        The client's own counts, over the classes of which others have samples too.
    expected : float
        What the others' figures of these classes predict in place of ``correct``.
    score : float
        The difference in standard deviations; above 0 where the client claims more.
    """

    client: str
    what: str
    correct: int
    total: int
    expected: float
    score: float

    @property
    def is_implausible(self) -> bool:
        """Whether the difference is larger than chance and honest differences explain."""
        return abs(self.score) > LARGEST_DEVIATION

    def __str__(self) -> str:
        return (
            f"client {self.client} counts {self.correct} of {self.total} as {self.what}, where the others' figures of"
            f" the same classes predict {round(self.expected)}"
        )


def deviations(
    audit: Audit,
    earlier: Audit | None,
    requests: Collection[ForgetRequest] = (),
    *,
    without: Collection[int] = (),
) -> Iterator[Deviation]:
    """How each client's figures of a model compare with those of the others.

    Three things are compared: validation samples that the model has right, how many more these are than of an earlier
    model, and, for requests that several clients hold samples of, forget samples that it has right.

    Parameters
    ----------
    audit : Audit
        Audit of the model.
    earlier : Audit or None
        Audit of the model that it is compared with.
    requests : collection of ForgetRequest
        Requests that the audit measures and that a verdict depends on.
    without : collection of int
        Classes that are no part of the retained accuracy.
    """
    now = _validation(audit, without)
    before = _validation(earlier, without) if earlier is not None else {}
    shared = {client: (now[client], counts) for client, counts in before.items() if client in now}
    yield from _levels("right validation samples", now)
    yield from _levels("validation samples right before", {client: pair[1] for client, pair in shared.items()})
    for client in shared:
        yield _change(client, shared)
    for request in requests:
        hits = {
            client: ClassCounts((held.hits.correct,), (held.hits.total,))
            for client, reply in audit.replies.items()
            if (held := reply.targets.get(request.id)) is not None and held.hits.total
        }
        yield from _levels(f"right samples of request {request.id}", hits)


def implausible_clients(found: Iterator[Deviation]) -> dict[str, Deviation]:
    """By client, the largest of its implausible deviations; those that deviate most come first."""
    worst: dict[str, Deviation] = {}
    for item in found:
        known = worst.get(item.client)
        if item.is_implausible and (known is None or abs(item.score) > abs(known.score)):
            worst[item.client] = item
    return dict(sorted(worst.items(), key=lambda entry: -abs(entry[1].score)))


def doubted_clients(audit: Audit, compared: Callable[[Audit], Iterator[Deviation]]) -> dict[str, Deviation]:
    """By client, its largest implausible deviation; those that deviate most come first.

    One client's figures make those of honest others look odd, too. So the client that deviates most is left out, and
    the rest are compared anew, as long as at least two are left.

    Parameters
    ----------
    audit : Audit
    compared : callable
        Gives how the figures of each client in an audit compare with those of the others.
    """
    doubted: dict[str, Deviation] = {}
    while found := implausible_clients(compared(audit)):
        if len(audit.replies) <= _FEWEST:
            return {**doubted, **found}
        worst = next(iter(found))
        doubted[worst] = found[worst]
        audit = audit.without([worst])
    return doubted


def _validation(audit: Audit, without: Collection[int]) -> dict[str, ClassCounts]:
    """Validation counts by client, without some classes."""
    counts: dict[str, ClassCounts] = {}
    for client, reply in audit.replies.items():
        part = reply.parts.get("validation")
        if part is not None:
            kept = [index not in without for index in range(len(part.total))]
            counts[client] = ClassCounts(
                tuple(value * keep for value, keep in zip(part.correct, kept, strict=True)),
                tuple(value * keep for value, keep in zip(part.total, kept, strict=True)),
            )
    return counts


def _levels(what: str, counts: Mapping[str, ClassCounts]) -> Iterator[Deviation]:
    """Each client's hits beside those of the others."""
    correct = [sum(values) for values in zip(*(item.correct for item in counts.values()), strict=True)]
    total = [sum(values) for values in zip(*(item.total for item in counts.values()), strict=True)]
    for client, own in counts.items():
        others_correct = tuple(value - mine for value, mine in zip(correct, own.correct, strict=True))
        others_total = tuple(value - mine for value, mine in zip(total, own.total, strict=True))
        if any(others_total):
            yield _level(client, what, own, ClassCounts(others_correct, others_total))


def _level(client: str, what: str, own: ClassCounts, others: ClassCounts) -> Deviation:
    """The client's hits beside a beta-binomial prediction for each class, with Jeffreys' prior on the others' hits."""
    correct, total, expected, variance = 0, 0, 0.0, 0.0
    columns = zip(own.correct, own.total, others.correct, others.total, strict=True)
    for right, count, others_right, others_count in columns:
        if not count or not others_count:
            continue
        probability = (others_right + 0.5) / (others_count + 1)
        correct, total, expected = correct + right, total + count, expected + count * probability
        variance += count * probability * (1 - probability) * (1 + (count - 1) / (others_count + 2))
    return Deviation(client, what, correct, total, expected, _score(correct - expected, variance, total))


def _change(client: str, pairs: Mapping[str, tuple[ClassCounts, ClassCounts]]) -> Deviation:
    """How many more samples of a client are right than before, beside the others' change of the same classes.

    The samples are the same before and after, so that far fewer change than chance alone would move. How many do is
    taken from the others, client by client and class by class.
    """
    own_now, own_before = pairs[client]
    others = [pair for name, pair in pairs.items() if name != client]
    gained, total, expected, flips, compared = 0, 0, 0.0, 1.0, 1.0
    for index, count in enumerate(own_now.total):
        held = [(now.correct[index] - was.correct[index], now.total[index]) for now, was in others]
        others_count = sum(size for _, size in held)
        if not count or not others_count or own_before.total[index] != count:
            continue
        gained, total = gained + own_now.correct[index] - own_before.correct[index], total + count
        expected += count * sum(change for change, _ in held) / others_count
        flips, compared = flips + sum(abs(change) for change, _ in held), compared + others_count
    rate = flips / compared
    variance = total * rate * (1 + total / compared)
    what = "change in right validation samples"
    return Deviation(client, what, gained, total, expected, _score(gained - expected, variance, total))


def _score(difference: float, variance: float, total: int) -> float:
    return difference / math.sqrt(variance + (SPREAD * total) ** 2 + 0.25) if total else 0.0
