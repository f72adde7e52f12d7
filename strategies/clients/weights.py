"""How much a client's model weighs in an average, at most its samples and its share; and which metrics are used."""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection, Mapping

from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict

from fed_unlearn.protocol.bounded import LONGEST_LIST
from fed_unlearn.strategies.clients.bounds.shares import bounded_parts
from fed_unlearn.strategies.clients.claims import most_retained
from fed_unlearn.strategies.clients.messages.exchange import Roster

logger = logging.getLogger("fed_unlearn.strategies")

_LARGEST_METRIC = float(2**63)


def training_weights(roster: Roster, weights: Mapping[str, float], *, in_samples: bool = True) -> dict[str, float]:
    """The weights of a round of training on retained samples, bounded.

    Parameters
    ----------
    roster : Roster
        Knows how many samples each client identified itself with, and what is forgotten of them.
    weights : mapping of str to float
        Weight of each client, by client.
    in_samples : bool
        Whether they count samples; weights of another unit are bounded by the share alone.
    """
    if not in_samples:
        return bounded_weights(roster, weights)
    return bounded_weights(roster, weights, {client: most_retained(roster, client)[1] for client in weights})


def bounded_weights(
    roster: Roster, weights: Mapping[str, float], most: Mapping[str, float] | None = None
) -> dict[str, float]:
    """The weights, none above a client's samples or its share; clients whose weight is lowered are named in the log.

    An app may count a sample once for each local epoch. The weights of all clients are then the same number of times
    as large as their samples, and so may each one's be: as often as the most that another client counts its own.

    Parameters
    ----------
    roster : Roster
    weights : mapping of str to float
        Weight of each client, by client.
    most : mapping of str to float, optional
        The number of each client's samples.
    """
    bounded = dict(weights)
    if most is not None:
        often = {client: weight / most[client] for client, weight in weights.items() if most[client] > 0}
        most_often, second = [*sorted(often.values(), reverse=True), 1.0, 1.0][:2]
        for client, weight in weights.items():
            others = second if often.get(client) == most_often else most_often
            bounded[client] = min(weight, most[client] * max(1.0, others))
    bounded = bounded_parts(bounded, roster.max_share)
    for client, weight in weights.items():
        if bounded[client] < weight:
            logger.warning(
                "client %s: its weight %.6g is over what its samples and its share allow; it counts as %.6g",
                client,
                weight,
                bounded[client],
            )
    return bounded


def with_weight(message: Message, key: str, weight: float) -> Message:
    """The reply with another weight; the message that came stays as it is."""
    changed = copy.copy(message)
    changed.content = RecordDict(
        {
            name: MetricRecord({**record, key: weight})
            if isinstance(record, MetricRecord) and key in record
            else record
            for name, record in message.content.items()
        }
    )
    return changed


def broken_metrics(message: Message) -> set[tuple[str, str]]:
    """Record and name of every metric of a reply that is not made of finite numbers, or has too many of them."""
    return {
        (name, key)
        for name, record in message.content.items()
        if isinstance(record, MetricRecord)
        for key, value in record.items()
        if not _is_finite(value)
    }


def without_metrics(message: Message, broken: Collection[tuple[str, str]]) -> Message:
    """The reply without some metrics; itself where there are none."""
    if not broken:
        return message
    changed = copy.copy(message)
    changed.content = RecordDict(
        {
            name: MetricRecord({key: value for key, value in record.items() if (name, key) not in broken})
            if isinstance(record, MetricRecord)
            else record
            for name, record in message.content.items()
        }
    )
    return changed


def _is_finite(value: object) -> bool:
    values = value if isinstance(value, list) else [value]
    return len(values) <= LONGEST_LIST and all(
        isinstance(item, int | float) and abs(item) <= _LARGEST_METRIC for item in values
    )


def records_of(message: Message) -> tuple[tuple[str, ...], frozenset[tuple[str, str, int]]]:
    """Names of the records of arrays; record, name and length of every metric, 0 for a single number."""
    metrics = {
        (name, key, len(value) if isinstance(value, list) else 0)
        for name, record in message.content.items()
        if isinstance(record, MetricRecord)
        for key, value in record.items()
    }
    arrays = sorted(name for name, record in message.content.items() if isinstance(record, ArrayRecord))
    return tuple(arrays), frozenset(metrics)
