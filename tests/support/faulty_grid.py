"""The in-process grid with faults between it and the server: real messages that are lost, doubled, late or spoiled."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from numpy.typing import NDArray

from fed_unlearn.simulations.inprocess import InProcessGrid

FOREVER = 10**9

Change = Callable[[Message], None]
"""Changes a reply in place."""


@dataclass
class Fault:
    """What one client does wrong, at one type of message.

    Attributes
    ----------
    kind : str
        ``"raises"``: an error comes back, and nothing was done. ``"deaf"``: the message is lost on its way, and nothing
        was done. ``"leaves"``: as that, and the node is not connected any more. ``"silent"``: it was done, and the
        answer is lost. ``"late"``: it was done, and the answer comes first of all in the client's next exchange of that
        type. ``"twice"``: the answer comes two times. ``"spoiled"``: the answer is changed.
    client : int
    message_type : str
    times : int
        So many of these messages, from now on.
    change : callable
        What is changed of a spoiled answer.
    """

    kind: str
    client: int
    message_type: str
    times: int = FOREVER
    change: Change = lambda reply: None


class FaultyGrid(Grid):
    """A grid whose clients do wrong what they are told to; a timeout is not waited for.

    Parameters
    ----------
    grid : InProcessGrid
        Client ``k`` is node ``k + 1``.

    Attributes
    ----------
    gone : set of int
        Clients whose node is not connected.
    sent : list of (int, str)
        Client and type of every message that was sent, in order, lost ones included.
    """

    answers_at_once = True

    def __init__(self, grid: InProcessGrid) -> None:
        self._grid = grid
        self._faults: list[Fault] = []
        self._late: dict[tuple[int, str], list[Message]] = {}
        self._watched: dict[str, Callable[[int, Message], None]] = {}
        self.gone: set[int] = set()
        self.sent: list[tuple[int, str]] = []

    def fault(self, kind: str, client: int, message_type: str, times: int = FOREVER) -> None:
        """Let a client do something wrong from now on."""
        self._faults.append(Fault(kind, client, message_type, times))

    def spoil(self, change: Change, client: int, message_type: str, times: int = FOREVER) -> None:
        """Let the answers of a client be changed from now on."""
        self._faults.append(Fault("spoiled", client, message_type, times, change))

    def watch(self, message_type: str, note: Callable[[int, Message], None]) -> None:
        """Be told of every answer that clients make to messages of a type, before anything happens to it."""
        self._watched[message_type] = note

    def heal(self) -> None:
        """No client does anything wrong any more, and all are connected; what is late still comes."""
        self._faults.clear()
        self.gone.clear()

    def count(self, client: int, message_type: str) -> int:
        """How many messages of a type were sent to a client."""
        return self.sent.count((client, message_type))

    def get_node_ids(self) -> Iterable[int]:
        """Nodes that are connected."""
        return [node for node in self._grid.get_node_ids() if node - 1 not in self.gone]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Deliver messages one after the other; answers of earlier exchanges come first."""
        late: list[Message] = []
        replies: list[Message] = []
        for message in messages:
            client, message_type = message.metadata.dst_node_id - 1, message.metadata.message_type
            self.sent.append((client, message_type))
            late += self._late.pop((client, message_type), [])
            if client not in self.gone:
                replies += self._answers(message, client, message_type)
        return late + replies

    def _answers(self, message: Message, client: int, message_type: str) -> list[Message]:
        fault = next(
            (
                item
                for item in self._faults
                if (item.client, item.message_type) == (client, message_type) and item.times
            ),
            None,
        )
        kind = fault.kind if fault is not None else "none"
        if fault is not None:
            fault.times -= 1
        if kind == "leaves":
            self.gone.add(client)
        if kind in ("deaf", "leaves"):
            return []
        if kind == "raises":
            with mock.patch.object(self._grid, "_client_app", _raise):
                return list(self._grid.send_and_receive([message]))
        [reply] = self._grid.send_and_receive([message])
        if message_type in self._watched:
            self._watched[message_type](client, reply)
        if fault is not None and reply.has_content():
            fault.change(reply)
        match kind:
            case "late":
                self._late.setdefault((client, message_type), []).append(reply)
                return []
            case "silent":
                return []
            case "twice":
                return [reply, reply]
        return [reply]

    # ------------------------------------------------------------------ the rest of Flower's Grid

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """As the grid itself."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """As the grid itself."""
        return self._grid.pull_messages(message_ids)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """As the grid itself."""
        return self._grid.get_nodes()

    def set_run(self, run: Run) -> None:
        """As the grid itself."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """As the grid itself."""
        return self._grid.run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """As the grid itself."""
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)


def _raise(message: Message, context: Context) -> Message:
    raise OSError("disk full")


# ---------------------------------------------------------------------- what a client may do to an answer


def every_array(change: Callable[[NDArray[Any]], NDArray[Any]]) -> Change:
    """Change every array of a reply's model."""

    def changed(reply: Message) -> None:
        for name, record in list(reply.content.array_records.items()):
            reply.content[name] = ArrayRecord({key: Array(change(array.numpy())) for key, array in record.items()})

    return changed


def metric(name: str, value: float | list[int]) -> Change:
    """Put another value in place of a metric of a reply."""

    def changed(reply: Message) -> None:
        for record in reply.content.values():
            if isinstance(record, MetricRecord) and name in record:
                record[name] = value

    return changed


def without(name: str) -> Change:
    """Take a record out of a reply."""

    def changed(reply: Message) -> None:
        reply.content.pop(name, None)

    return changed


SPOILED: dict[str, Change] = {
    "nan": every_array(lambda value: np.full_like(value, np.nan)),
    "infinite": every_array(lambda value: np.full_like(value, -np.inf)),
    "another shape": every_array(lambda value: np.concatenate([value, value])),
    "another dtype": every_array(lambda value: value.astype(np.float64)),
    "weight 0": metric("num-examples", 0),
    "weight nan": metric("num-examples", float("nan")),
    "no arrays": without("arrays"),
}
"""Answers with a model that must not be used."""
