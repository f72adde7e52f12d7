"""A Grid that is polled, as Flower's own are: messages wait for their answers, nodes go away and come back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from flwr.app import Error, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from fed_unlearn.simulations.inprocess import InProcessGrid

SUPERLINK = 1
NODE_UNAVAILABLE = 5


@dataclass
class Node:
    """A SuperNode.

    Attributes
    ----------
    client : int
    online : bool
        Whether the SuperLink thinks that it is there.
    alive : bool
        Whether it does anything.
    activated : int
        How often it has started.
    """

    client: int
    online: bool = True
    alive: bool = True
    activated: int = 1


@dataclass
class Letter:
    """A message at the SuperLink; ``owner`` counts the starts of its node when it was pushed."""

    message: Message
    owner: int
    fetched: bool = False
    answer: Message | None = None


@dataclass
class PolledGrid(Grid):
    """A SuperLink with nodes; client ``k`` is at node ``100 + k`` at first.

    Attributes
    ----------
    inner : InProcessGrid
        Answers for the clients.
    before_call : callable
        Called at the start of every call that asks for something: what happens meanwhile.
    ticks : int
        How many such calls there were.
    deaf : set of (int, str)
        Nodes that fetch a type of message, and never answer it.
    sent : list of (int, str)
        Node and type of every message.
    """

    inner: InProcessGrid
    before_call: Callable[[], None] = lambda: None
    deaf: set[tuple[int, str]] = field(default_factory=set)
    sent: list[tuple[int, str]] = field(default_factory=list)
    ticks: int = 0

    def __post_init__(self) -> None:
        self.nodes = {node + 99: Node(node - 1) for node in self.inner.get_node_ids()}
        self.letters: dict[str, Letter] = {}
        self._numbers = iter(range(1, 10**9))

    # ------------------------------------------------------------------ what happens to nodes

    def kill(self, node: int) -> None:
        """The process is gone; the SuperLink has not noticed yet."""
        self.nodes[node].alive = False

    def notice(self, node: int) -> None:
        """The SuperLink notices that a node is gone."""
        self.nodes[node].online = False

    def start(self, node: int, client: int) -> None:
        """A SuperNode starts, perhaps again; what its last process had fetched is lost."""
        started = self.nodes[node].activated if node in self.nodes else 0
        self.nodes[node] = Node(client, activated=started + 1)

    # ------------------------------------------------------------------ Flower's Grid

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Nodes that the SuperLink thinks are there."""
        self._tick()
        return [
            NodeInfo(node_id=name, last_activated_at=f"start {node.activated}")
            for name, node in self.nodes.items()
            if node.online
        ]

    def get_node_ids(self) -> Iterable[int]:
        """Their ids."""
        return [info.node_id for info in self.get_nodes()]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Take messages; those for unknown nodes are not taken."""
        ids: list[str] = []
        for message in messages:
            node = message.metadata.dst_node_id
            self.sent.append((node, message.metadata.message_type))
            if node not in self.nodes:
                ids.append(None)  # type: ignore[arg-type]
                continue
            name = f"m{next(self._numbers)}"
            message.metadata.__dict__["_message_id"] = name
            self.letters[name] = Letter(message, self.nodes[node].activated)
            ids.append(name)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The answers that are there; the SuperLink's own where a node is gone."""
        self._tick()
        self._work()
        answers: list[Message] = []
        for name in list(message_ids):
            letter = self.letters[name]
            if not self.nodes[letter.message.metadata.dst_node_id].online:
                answers.append(_of_superlink(letter.message))
            elif letter.answer is not None:
                answers.append(letter.answer)
            else:
                continue
            del self.letters[name]
        return answers

    def _tick(self) -> None:
        self.ticks += 1
        self.before_call()

    def _work(self) -> None:
        """Let nodes fetch and answer what is theirs."""
        for letter in self.letters.values():
            told = letter.message.metadata
            node = self.nodes[told.dst_node_id]
            if not node.alive or not node.online or letter.answer is not None or letter.fetched:
                continue
            letter.fetched = True
            if (told.dst_node_id, told.message_type) in self.deaf:
                continue
            order = copy.copy(letter.message)
            order.__dict__["_metadata"] = copy.copy(told)
            order.metadata.__dict__["_dst_node_id"] = node.client + 1
            [answer] = self.inner.send_and_receive([order])
            answer.metadata.__dict__["_src_node_id"] = told.dst_node_id
            answer.metadata.__dict__["_reply_to_message_id"] = told.message_id
            letter.answer = answer

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Nobody may wait for this one: it polls every three seconds."""
        raise AssertionError("send_and_receive of a Grid that is polled")

    def set_run(self, run: Run) -> None:
        """As the inner one."""
        self.inner.set_run(run)

    @property
    def run(self) -> Run:
        """As the inner one."""
        return self.inner.run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """As the inner one."""
        return self.inner.create_message(content, message_type, dst_node_id, group_id, ttl)


def _of_superlink(message: Message) -> Message:
    error = Message(Error(NODE_UNAVAILABLE, "Destination node unavailable"), reply_to=message)
    error.metadata.__dict__["_src_node_id"] = SUPERLINK
    return error
