"""Which replies of clients can be used: whole, finite models like the one that was sent, with a weight, once each."""

from __future__ import annotations

import copy
import logging
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Message, RecordDict
from numpy.typing import NDArray

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, decode, pack
from fed_unlearn.strategies.clients.weights import broken_metrics, records_of, with_weight, without_metrics
from fed_unlearn.strategies.inner.statistics import impossible_statistic
from fed_unlearn.text import printable

logger = logging.getLogger("fed_unlearn.strategies")

_LONGEST_REASON = 400
_LONGEST_DESCRIPTION = 80
_MOST_DIMENSIONS = 8
_TWICE = "it answered twice; the first answer counts"


def usable_arrays(message: Message, reference: Arrays, *, weight_key: str | None = protocol.WEIGHT) -> str | None:
    """Why the model of a reply cannot be used; None where it can.

    Parameters
    ----------
    message : Message
        A client's reply.
    reference : dict of ndarray
        The model that the client was sent.
    weight_key : str or None
        Name of the metric that must be a finite number above 0; None where there need not be one.

    Returns
    -------
    str or None
        The reason, such as ``"its array 'fc.weight' is not finite"``: it names arrays, and holds no numbers of theirs.
    """
    return read_reply(message, reference, weight_key)[1]


def read_reply(message: Message, reference: Arrays, weight_key: str | None) -> tuple[Arrays, str | None]:
    """The model of a reply, read-only, and None; an empty one and the reason where it cannot be used.

    Arrays that a reply may leave out, and does, are those that were sent.
    """
    if message.has_error():
        return {}, f"it answered with an error: {protocol.error_of(message)}"
    record = _model_of(message)
    if record is None:
        return {}, "it takes no part in training" if protocol.refusal_of(message) else "its reply carries no model"
    lacks_none = message.metadata.message_type not in protocol.LEAVE_OUT_ARRAYS
    if not set(record) <= set(reference) or (lacks_none and len(record) < len(reference)):
        return {}, f"its model has {len(record)} arrays, and not the {len(reference)} that were sent"
    weight = weight_of(message, weight_key)
    if weight is None:
        return {}, f"its {weight_key} is not a finite number above 0"
    arrays = dict(reference)
    for name, array in record.items():
        sent = reference[name]
        if tuple(array.shape) != sent.shape or array.dtype != sent.dtype.name:
            given = printable(f"{array.dtype}{list(array.shape[:_MOST_DIMENSIONS])}", _LONGEST_DESCRIPTION)
            return {}, f"its array {name!r} is {given}; sent {sent.dtype}{list(sent.shape)}"
        try:
            value = _read(array)
        except Exception as error:  # the bytes are a client's: NumPy raises whatever its parser comes across
            return {}, f"its array {name!r} cannot be read: {type(error).__name__}"
        if value.shape != sent.shape or value.dtype != sent.dtype:
            return {}, f"its array {name!r} is not what its description says"
        if not np.isfinite(value).all():
            return {}, f"its array {name!r} is not finite"
        if (impossible := impossible_statistic(name, value, sent)) is not None:
            return {}, impossible
        arrays[name] = value
    return arrays, None


def weight_of(message: Message, weight_key: str | None) -> float | None:
    """The weight of a reply; 1 where none is asked for, and None where it is not a finite number above 0."""
    if weight_key is None:
        return 1.0
    weight = protocol.read_metric(message, weight_key)
    return float(weight) if 0 < weight <= sys.float_info.max else None


@dataclass(frozen=True)
class UsableReply:
    """A reply that can be used.

    Attributes
    ----------
    client : str
        Id of the client.
    message : Message
    arrays : dict of ndarray
        Arrays of the client's model, read-only; empty where the model is not kept.
    weight : float
        Weight of the client, above 0.
    """

    client: str
    message: Message
    arrays: Arrays
    weight: float


@dataclass
class ReplyFilter:
    """Leaves out replies that cannot be used, and names their clients in the log, once for each reason.

    Attributes
    ----------
    named : set of (str, str)
        Clients and reasons that the log has.
    left_out : dict of str to str
        Clients whose reply to the last exchange was left out, and why.
    """

    named: set[tuple[str, str]] = field(default_factory=set)
    left_out: dict[str, str] = field(default_factory=dict)

    def usable(
        self,
        replies: Iterable[Message],
        reference: Arrays,
        *,
        asked: Mapping[int, str],
        weight_key: str | None,
        keep_arrays: bool,
        bounded: Callable[[Mapping[str, float]], Mapping[str, float]] = lambda weights: weights,
        needed: str | None = None,
    ) -> list[UsableReply]:
        """The replies that can be used, in their order.

        Left out are those of :func:`usable_arrays`, those of nodes that were not asked, a node's second one, and, where
        there is a weight key, those whose records are not what most carry: FedAvg, and all that is built on it, refuses
        all replies of a round where one differs.

        Parameters
        ----------
        replies : iterable of Message
        reference : dict of ndarray
            The model that the clients were sent.
        asked : mapping of int to str
            Clients that were asked, by node.
        weight_key : str or None
            Name of the metric that must be a finite number above 0, as in :func:`usable_arrays`.
        keep_arrays : bool
            Whether the models are wanted, decoded.
        bounded : callable, optional
            Gives the weights that count, by client; a reply whose weight is lowered is passed on with that one.
        needed : str or None
            Name of a metric that the strategy cannot do without: replies in which it is not finite are left out.
        """
        kept: dict[int, UsableReply] = {}
        self.left_out.clear()
        for message in replies:
            node = message.metadata.src_node_id
            client = asked.get(node) or f"of node {node}"
            if node not in asked or node in kept:
                self.leave_out(client, "it was not asked" if node not in asked else _TWICE)
                continue
            arrays, reason = read_reply(message, reference, weight_key)
            if reason is None and needed in {key for _, key in broken_metrics(message)}:
                reason = f"its {needed} is not a finite number"
            if reason is None:
                weight = weight_of(message, weight_key) or 0.0
                kept[node] = UsableReply(client, message, arrays if keep_arrays else {}, weight)
            else:
                self.leave_out(client, reason)
        alike = list(kept.values())
        contents = Counter(records_of(reply.message) for reply in alike)
        if weight_key is not None and len(contents) > 1:
            usual = contents.most_common(1)[0][0]
            for reply in alike:
                if records_of(reply.message) != usual:
                    self.leave_out(reply.client, "its reply has other records or metrics than those of most clients")
            alike = [reply for reply in alike if records_of(reply.message) == usual]
        if weight_key is None:
            return alike
        return self._with_finite_metrics(_weighted(alike, weight_key, bounded), weight_key)

    def evaluations(
        self,
        replies: Iterable[Message],
        *,
        name_of: Callable[[int], str],
        weight_key: str | None,
        bounded: Callable[[Mapping[str, float]], Mapping[str, float]],
    ) -> list[Message]:
        """The replies to an evaluation that can be used: without a model, else as in :meth:`usable`."""
        kept: list[UsableReply] = []
        for message in replies:
            client = name_of(message.metadata.src_node_id)
            weight = None if message.has_error() else weight_of(message, weight_key)
            if weight is not None:
                kept.append(UsableReply(client, message, {}, weight))
            elif message.has_error():
                self.leave_out(client, f"it answered with an error: {protocol.error_of(message)}")
            else:
                self.leave_out(client, f"its {weight_key} is not a finite number above 0")
        if weight_key is None:
            return [reply.message for reply in kept]
        alike = self._with_finite_metrics(_weighted(kept, weight_key, bounded), weight_key)
        return [reply.message for reply in alike]

    def _with_finite_metrics(self, replies: list[UsableReply], weight_key: str) -> list[UsableReply]:
        """The replies without the metrics of which some client gives no finite number; clients that do are named."""
        broken: set[tuple[str, str]] = set()
        for reply in replies:
            own = {(name, key) for name, key in broken_metrics(reply.message) if key != weight_key}
            if own:
                self.leave_out(reply.client, "some of its metrics are no finite numbers", whole=False)
            broken |= own
        return [replace(reply, message=without_metrics(reply.message, broken)) for reply in replies]

    def leave_out(self, client: str, reason: str, *, whole: bool = True) -> None:
        """Name a client whose reply, or part of it, is not used."""
        if (client, reason) not in self.named:
            text = printable(reason, _LONGEST_REASON)
            logger.warning("client %s is left out: %s" if whole else "client %s: %s", client, text)
        self.named.add((client, reason))
        if whole:
            self.left_out[client] = printable(reason, _LONGEST_REASON)


def _weighted(
    replies: list[UsableReply], weight_key: str, bounded: Callable[[Mapping[str, float]], Mapping[str, float]]
) -> list[UsableReply]:
    """The replies with the weights that count; without those that count for nothing."""
    weights = bounded({reply.client: reply.weight for reply in replies})
    return [
        reply
        if weights[reply.client] == reply.weight
        else replace(
            reply,
            weight=weights[reply.client],
            message=with_weight(reply.message, weight_key, weights[reply.client]),
        )
        for reply in replies
        if weights[reply.client] > 0
    ]


def with_arrays(reply: UsableReply, arrays: Arrays) -> UsableReply:
    """The reply with another model in place of its own; the message that came stays as it is."""
    return replace(reply, message=message_with(reply.message, arrays), arrays=arrays)


def completed(message: Message, arrays: Arrays) -> Message:
    """A client's message with its whole model, which :func:`read_reply` has read; itself where nothing is left out."""
    record = _model_of(message)
    return message if record is not None and len(record) == len(arrays) else message_with(message, arrays)


def message_with(message: Message, arrays: Arrays) -> Message:
    """A copy of a client's message with another model in place of its own."""
    changed = copy.copy(message)
    own = _model_of(message)
    changed.content = RecordDict(
        {key: pack(arrays) if record is own else record for key, record in message.content.items()}
    )
    return changed


def _read(array: Array) -> NDArray[Any]:
    """The array, read-only and without a copy where its bytes are laid out as this library lays them out."""
    start = _start_of(array.dtype, tuple(array.shape))
    size = math.prod(array.shape) * np.dtype(array.dtype).itemsize
    if array.stype != "numpy.ndarray" or len(array.data) != len(start) + size or not array.data.startswith(start):
        return decode(array)
    return np.frombuffer(array.data, dtype=array.dtype, offset=len(start)).reshape(array.shape)


@lru_cache(maxsize=4096)
def _start_of(dtype: str, shape: tuple[int, ...]) -> bytes:
    """What comes before the numbers in the bytes of an array."""
    empty = np.empty(shape, dtype)
    data = pack({"": empty})[""].data
    return data[: len(data) - empty.nbytes]


def _model_of(message: Message) -> ArrayRecord | None:
    """The record of the protocol's name, else the only one."""
    named = message.content.get(protocol.ARRAYS_KEY)
    if isinstance(named, ArrayRecord):
        return named
    records = list(message.content.array_records.values())
    return records[0] if len(records) == 1 else None
