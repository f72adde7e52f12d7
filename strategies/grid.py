"""The Grid that the inner strategy sees: eligible nodes only, in a fixed order, replies checked and counted."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence

from flwr.app import Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from fed_unlearn import protocol
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.strategies.roster import Answers, DeviceUse, Roster, Traffic, client_order, size_of

logger = logging.getLogger("fed_unlearn.strategies")

_POLL_SECONDS = 0.1


class EligibleGrid(Grid):
    """A Grid over identified clients; every message of a run goes through it.

    Nodes and replies come sorted by client id. A ``train`` reply that was not made on the retained view, or whose
    tombstones are not those that its client has confirmed, is dropped and named.

    Parameters
    ----------
    grid : Grid
        The runtime's own.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self.roster = Roster()
        self.traffic = Traffic()
        self.device_use: dict[DeviceUse, int] = {}
        self.dropped: dict[str, str] = {}

    def identify(self, min_nodes: int, timeout: float, confirmed: Mapping[str, str]) -> None:
        """Learn which client is behind which node.

        Parameters
        ----------
        min_nodes : int
            Wait until so many nodes are there: simulated ServerApps start before nodes register.
        timeout : float
            Seconds to wait for nodes, and for their answers.
        confirmed : mapping of str to str
            The tombstone digest that each client last confirmed; one that shows another is left out and named.

        Raises
        ------
        FedUnlearnError
            If too few nodes come, or two nodes say that they are the same client.
        """
        deadline = time.monotonic() + timeout
        while len(nodes := sorted(self._grid.get_node_ids())) < min_nodes:
            if time.monotonic() > deadline:
                raise FedUnlearnError(f"{len(nodes)} nodes are connected after {timeout:.0f} s; expected {min_nodes}")
            time.sleep(_POLL_SECONDS)
        messages = [Message(RecordDict(), node, protocol.IDENTIFY) for node in nodes]
        clients: dict[int, str] = {}
        reason = "is fed_unlearn.client.install(app, task) called?"
        for reply in self._exchange(messages, timeout):
            stamp = protocol.read_stamp(reply) if reply.has_content() else None
            if stamp is None:
                if reply.has_error():
                    reason = reply.error.reason or reason
                logger.warning("node %d did not say which client it is: %s", reply.metadata.src_node_id, reason)
                continue
            if stamp.client_id in clients.values():
                raise FedUnlearnError(f"two nodes say that they are client {stamp.client_id}; give each its own id")
            if confirmed.get(stamp.client_id, stamp.tombstones) != stamp.tombstones:
                self.dropped[stamp.client_id] = "it does not show the tombstones that it has confirmed"
                logger.warning("client %s is left out: %s", stamp.client_id, self.dropped[stamp.client_id])
                continue
            clients[reply.metadata.src_node_id] = stamp.client_id
            self.roster.tombstones[stamp.client_id] = stamp.tombstones
            self.roster.class_count = int(protocol.read_metric(reply, "class-count"))
        if not clients:
            raise FedUnlearnError(f"no node could say which client it is: {reason}")
        self.roster.clients = dict(sorted(clients.items(), key=lambda item: client_order(item[1])))

    def ask(
        self, message_type: str, content: RecordDict, timeout: float, clients: Sequence[str] | None = None
    ) -> Answers:
        """Send one content to clients, and collect what they answer.

        Parameters
        ----------
        message_type : str
            One of the protocol's.
        content : RecordDict
        timeout : float
            Seconds.
        clients : sequence of str, optional
            All where none are named.

        Returns
        -------
        Answers
            Every client asked is in exactly one of its parts.
        """
        asked = {client: node for node, client in self.roster.clients.items() if clients is None or client in clients}
        messages = [Message(content, node, message_type) for node in asked.values()]
        found: dict[str, Message] = {}
        refused: dict[str, str] = {}
        failed = {client: f"client {client} did not answer {message_type}" for client in asked}
        for client in clients or ():
            if client not in asked:
                failed[client] = f"client {client} is not reachable"
        for reply in self.send_and_receive(messages, timeout=timeout):
            client = self.roster.clients[reply.metadata.src_node_id]
            if reply.has_error():
                failed[client] = f"client {client}: {reply.error.reason}"
                continue
            refusal = protocol.refusal_of(reply)
            if refusal is None:
                found[client] = reply
                del failed[client]
            elif refusal.invalid_request:
                refused[client] = refusal.reason
                del failed[client]
            else:
                failed[client] = refusal.reason
        for reason in (*refused.values(), *failed.values()):
            logger.warning("%s: %s", message_type, reason)
        return Answers(found, refused, failed)

    def take_traffic(self) -> Traffic:
        """The cost since this was last asked."""
        taken, self.traffic = self.traffic, Traffic()
        return taken

    # ------------------------------------------------------------------ Flower's Grid

    def get_node_ids(self) -> Iterable[int]:
        """Eligible nodes, sorted by client."""
        connected = set(self._grid.get_node_ids())
        return [node for node in self.roster.clients if node in connected]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send messages; replies come sorted by client, without those that must not be used."""
        replies = [reply for reply in self._exchange(list(messages), timeout) if self._usable(reply)]
        order = list(self.roster.clients)
        return sorted(replies, key=lambda reply: order.index(reply.metadata.src_node_id))

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages without waiting."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Fetch replies to pushed messages."""
        return self._grid.pull_messages(message_ids)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Information on eligible nodes."""
        return [node for node in self._grid.get_nodes() if node.node_id in self.roster.clients]

    def set_run(self, run: Run) -> None:
        """Set the run of the runtime's own Grid."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """The run of the runtime's own Grid."""
        return self._grid.run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Make a message as the runtime's own Grid does."""
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    # ------------------------------------------------------------------ accounting and checks

    def _exchange(self, messages: list[Message], timeout: float | None) -> list[Message]:
        self.traffic.messages += len(messages)
        sizes: dict[int, int] = {}
        for message in messages:
            size = sizes.get(id(message.content))
            if size is None:
                size = sizes[id(message.content)] = size_of(message.content)
            self.traffic.bytes_sent += size
        replies = list(self._grid.send_and_receive(messages, timeout=timeout))
        for reply in replies:
            if reply.has_content():
                self.traffic.bytes_received += size_of(reply.content)
                self.traffic.forward_passes += int(protocol.read_metric(reply, protocol.FORWARD_PASSES))
                self.traffic.backward_passes += int(protocol.read_metric(reply, protocol.BACKWARD_PASSES))
                self._note_device(reply)
        return replies

    def _note_device(self, reply: Message) -> None:
        stamp = protocol.read_stamp(reply)
        if stamp is not None:
            use = DeviceUse(stamp.client_id, reply.metadata.message_type, stamp.device, stamp.cuda_visible_devices)
            self.device_use[use] = self.device_use.get(use, 0) + 1

    def _usable(self, reply: Message) -> bool:
        """Whether a reply may be used; tombstones confirmed later than a client's reply are caught here."""
        client = self.roster.clients.get(reply.metadata.src_node_id)
        if client is None:
            return False
        if reply.has_error():
            return True
        stamp = protocol.read_stamp(reply)
        reason: str | None = None
        if stamp is None or stamp.client_id != client:
            reason = "its reply does not say which client made it"
        elif reply.metadata.message_type == protocol.CONFIRM:
            self.roster.tombstones[client] = stamp.tombstones
        elif stamp.tombstones != self.roster.tombstones[client]:
            reason = "it does not show the tombstones that it has confirmed"
        elif reply.metadata.message_type == protocol.TRAIN and not stamp.retained:
            reason = "its training did not take its data through fed_unlearn.client.retained()"
        if reason is None:
            return True
        if self.dropped.get(client) != reason:
            logger.warning("client %s is left out: %s", client, reason)
        self.dropped[client] = reason
        return False
