"""The Grid that the inner strategy sees: eligible nodes only, in a fixed order, replies checked and counted."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from flwr.app import Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from fed_unlearn import protocol
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.strategies.roster import Answers, DeviceUse, Roster, Traffic, client_order, size_of

logger = logging.getLogger("fed_unlearn.strategies")

_POLL_SECONDS = 0.1


class NobodyAnsweredError(FedUnlearnError):
    """No client answered where at least one has to; the same may succeed later."""


class NobodyThereError(FedUnlearnError):
    """No node is connected, or none could say which client it is."""


class EligibleGrid(Grid):
    """A Grid over identified clients; every message of a run goes through it.

    Nodes and replies come sorted by client id. Left out and named is a reply that was made for an older message, a
    second one of the same client, a ``train`` reply that was not made on the retained view, and any reply of a client
    whose tombstones are not those that it has confirmed. Clients that leave are not among the nodes.

    Parameters
    ----------
    grid : Grid
        The runtime's own.
    retries : int
        How often a client that answered with an error is asked again.
    backoff_seconds : float
        Waited before it is asked again the first time; twice as long before every further time.
    """

    def __init__(self, grid: Grid, *, retries: int = 2, backoff_seconds: float = 0.5) -> None:
        self._grid = grid
        self._retries = retries
        self._backoff_seconds = backoff_seconds
        self.roster = Roster()
        self.traffic = Traffic()
        self.device_use: dict[DeviceUse, int] = {}
        self.dropped: dict[str, str] = {}
        self._named_before: set[tuple[str, str]] = set()
        self._asked: set[int] = set()

    def identify(
        self,
        min_nodes: int,
        timeout: float,
        confirmed: Mapping[str, str],
        unheard: Callable[[str], Collection[str]] = lambda client: (),
    ) -> None:
        """Learn which client is behind which node, where that is not known yet.

        Left out and named is a client that fails although it is asked again, one that does not show the tombstones
        that it should have, and a second node that says it is a client that is there already.

        Parameters
        ----------
        min_nodes : int
            Wait until so many nodes are there: simulated ServerApps start before nodes register.
        timeout : float
            Seconds to wait for nodes, and for their answers.
        confirmed : mapping of str to str
            The tombstone digest that each client last confirmed; it must show it.
        unheard : callable
            Requests whose tombstones a client may have written without the server having heard of it: with these
            taken away, its digest may be the one that it confirmed.

        Raises
        ------
        NobodyThereError
            If no node comes, or none says which client it is.
        """
        deadline = time.monotonic() + timeout
        while len(nodes := sorted(self._grid.get_node_ids())) < min_nodes:
            if time.monotonic() > deadline:
                if not nodes:
                    raise NobodyThereError(f"no node is connected after {timeout:.0f} s; expected {min_nodes}")
                logger.warning(
                    "%d nodes are connected after %.0f s, not %d: they go on", len(nodes), timeout, min_nodes
                )
                break
            time.sleep(_POLL_SECONDS)
        connected = set(nodes)
        clients = {node: client for node, client in self.roster.clients.items() if node in connected}
        new = [node for node in nodes if node not in clients]
        self._asked.update(new)
        reason = "is fed_unlearn.client.install(app, task) called?"
        replies = self._identified(new, timeout)
        counts = Counter(protocol.read_count(reply, "class-count") for reply in replies.values() if reply.has_content())
        class_count = self.roster.class_count or max(counts, key=lambda count: counts[count], default=0)
        for node, reply in sorted(replies.items()):
            stamp = protocol.read_stamp(reply) if reply.has_content() else None
            if stamp is None:
                if reply.has_error():
                    reason = reply.error.reason or reason
                logger.warning("node %d did not say which client it is: %s", node, reason)
                continue
            client, held = stamp.client_id, tuple(protocol.read_counts(reply, "class-samples"))
            if client in clients.values():
                logger.warning(
                    "node %d says that it is client %s, which is there already; give it its own id", node, client
                )
                self._asked.discard(node)  # a client that starts anew may come before its old node is known to be gone
            elif len(held) != class_count or protocol.read_count(reply, "class-count") != class_count:
                self.leave_out(client, "it does not say how many samples of each class it holds")
            elif not self._shows(stamp, node, timeout, confirmed, unheard):
                self.leave_out(client, "it does not show the tombstones that it has confirmed")
            else:
                clients[node] = client
                self.roster.tombstones[client] = stamp.tombstones
                self.roster.class_count = class_count
                self.roster.class_samples[client] = held
                self.roster.excluded_samples[client] = protocol.read_count(reply, "excluded-samples")
        if not clients:
            raise NobodyThereError(f"no node could say which client it is: {reason}")
        self.roster.clients = dict(sorted(clients.items(), key=lambda item: client_order(item[1])))

    def _identified(self, nodes: Sequence[int], timeout: float) -> dict[int, Message]:
        """What nodes say of themselves; those that answer with an error are asked again, after a while."""
        replies: dict[int, Message] = {}
        asked = list(nodes)
        for retry in range(self._retries + 1):
            if retry:
                time.sleep(self._backoff_seconds * 2 ** (retry - 1))
            for reply in self._exchange([Message(RecordDict(), node, protocol.IDENTIFY) for node in asked], timeout):
                replies[reply.metadata.src_node_id] = reply
            asked = [node for node in asked if node in replies and replies[node].has_error()]
            if not asked:
                break
        return replies

    def _shows(
        self,
        stamp: protocol.Stamp,
        node: int,
        timeout: float,
        confirmed: Mapping[str, str],
        unheard: Callable[[str], Collection[str]],
    ) -> bool:
        """Whether a client has the tombstones that it confirmed, be it with others that the server has not heard of."""
        expected = confirmed.get(stamp.client_id, stamp.tombstones)
        if expected == stamp.tombstones:
            return True
        without = tuple(sorted(unheard(stamp.client_id)))
        if not without:
            return False
        content = protocol.content(protocol.IdentifyInstruction(without=without))
        replies = self._exchange([Message(content, node, protocol.IDENTIFY)], timeout)
        return any(protocol.read_earlier_tombstones(reply) == expected for reply in replies if reply.has_content())

    def ask(
        self, message_type: str, content: RecordDict, timeout: float, clients: Collection[str] | None = None
    ) -> Answers:
        """Send one content to clients, and collect what they answer.

        Parameters
        ----------
        message_type : str
            One of the protocol's.
        content : RecordDict
        timeout : float
            Seconds.
        clients : collection of str, optional
            All that stay where none are named.

        Returns
        -------
        Answers
            Every client asked is in exactly one of its parts.
        """
        return self.ask_each(message_type, dict.fromkeys(self._named(clients), content), timeout)

    def ask_each(self, message_type: str, contents: Mapping[str, RecordDict], timeout: float) -> Answers:
        """Send each client a content of its own, and collect what they answer; as :meth:`ask`.

        A client that answers with an error is asked again, after a while.
        """
        connected = set(self._grid.get_node_ids())
        nodes = {client: node for node, client in self.roster.clients.items() if node in connected}
        answers = Answers({}, {}, {}, {})
        for client in contents:
            if client not in nodes:
                answers.silent[client] = f"client {client} is not reachable"
        asked = [client for client in sorted(contents, key=client_order) if client in nodes]
        for retry in range(self._retries + 1):
            if retry:
                time.sleep(self._backoff_seconds * 2 ** (retry - 1))
            messages = [Message(contents[client], nodes[client], message_type) for client in asked]
            again = self._sort_answers(asked, self.send_and_receive(messages, timeout=timeout), message_type, answers)
            if not again:
                break
            asked = again
        for reason in (*answers.refused.values(), *answers.failed.values(), *answers.silent.values()):
            logger.warning("%s: %s", message_type, reason)
        return Answers(
            dict(sorted(answers.replies.items(), key=lambda item: client_order(item[0]))),
            answers.refused,
            answers.failed,
            answers.silent,
        )

    def _sort_answers(
        self, asked: Sequence[str], replies: Iterable[Message], message_type: str, answers: Answers
    ) -> list[str]:
        """Put each answer where it belongs; the clients whose answer was an error are to be asked again."""
        unheard = set(asked)
        again: list[str] = []
        for reply in replies:
            client = self.roster.clients[reply.metadata.src_node_id]
            unheard.discard(client)
            answers.failed.pop(client, None)
            if reply.has_error():
                answers.failed[client] = f"client {client}: {reply.error.reason}"
                again.append(client)
                continue
            refusal = protocol.refusal_of(reply)
            if refusal is None:
                answers.replies[client] = reply
            else:
                (answers.refused if refusal.invalid_request else answers.failed)[client] = refusal.reason
        for client in unheard:
            answers.failed.pop(client, None)
            reason = self.dropped.get(client)
            if reason is None:
                answers.silent[client] = f"client {client} did not answer {message_type}"
            else:
                answers.failed[client] = f"client {client} is left out: {reason}"
        return again

    def _named(self, clients: Collection[str] | None) -> list[str]:
        return list(self.roster.staying.values() if clients is None else clients)

    def connected(self) -> set[str]:
        """Clients that stay and can be reached."""
        return {self.roster.clients[node] for node in self.get_node_ids()}

    def has_new_nodes(self) -> bool:
        """Whether there are nodes that nobody has asked yet which client they are."""
        return bool(set(self._grid.get_node_ids()) - set(self.roster.clients) - self._asked)

    def reachable_leavers(self) -> list[str]:
        """Clients that leave and are still connected."""
        connected = set(self._grid.get_node_ids())
        return [
            client
            for node, client in self.roster.clients.items()
            if client in self.roster.leaving and node in connected
        ]

    def bar(self, client: str, reason: str) -> None:
        """Take a client out of the nodes until the clients are identified anew."""
        self.leave_out(client, reason)
        self._asked -= {node for node, name in self.roster.clients.items() if name == client}
        self.roster.clients = {node: name for node, name in self.roster.clients.items() if name != client}

    def leave_out(self, client: str, reason: str) -> None:
        """Name a client whose answer is not used, in the log once for each reason."""
        if (client, reason) not in self._named_before:
            logger.warning("client %s is left out: %s", client, reason)
        self._named_before.add((client, reason))
        self.dropped[client] = reason

    def take_traffic(self) -> Traffic:
        """The cost since this was last asked."""
        taken, self.traffic = self.traffic, Traffic()
        return taken

    # ------------------------------------------------------------------ Flower's Grid

    def get_node_ids(self) -> Iterable[int]:
        """Eligible nodes, sorted by client."""
        connected = set(self._grid.get_node_ids())
        return [node for node in self.roster.staying if node in connected]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send messages; replies come sorted by client, without those that must not be used."""
        self.dropped.clear()
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
        return [node for node in self._grid.get_nodes() if node.node_id in self.roster.staying]

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
        """Send, wait, and count; of each node the first answer to what it was sent, and no other."""
        if not messages:
            return []
        self.traffic.messages += len(messages)
        sizes: dict[int, tuple[int, str]] = {}
        sent: dict[int, tuple[Message, str]] = {}
        for message in messages:
            known = sizes.get(id(message.content))
            if known is None:
                known = sizes[id(message.content)] = (size_of(message.content), protocol.digest_of(message))
            self.traffic.bytes_sent += known[0]
            sent[message.metadata.dst_node_id] = message, known[1]
        replies: list[Message] = []
        for reply in self._grid.send_and_receive(messages, timeout=timeout):
            if not self._answers(reply, sent):
                continue
            replies.append(reply)
            if reply.has_content():
                self.traffic.bytes_received += size_of(reply.content)
                self.traffic.forward_passes += protocol.read_count(reply, protocol.FORWARD_PASSES)
                self.traffic.backward_passes += protocol.read_count(reply, protocol.BACKWARD_PASSES)
                self._note_device(reply)
        return replies

    def _answers(self, reply: Message, sent: dict[int, tuple[Message, str]]) -> bool:
        """Whether a reply is the first answer to the message of this exchange; it is then no longer waited for."""
        node = reply.metadata.src_node_id
        name = self.roster.clients.get(node, f"of node {node}")
        if node not in sent:
            logger.warning("client %s answered twice; the first answer counts", name)
            return False
        stamp = protocol.read_stamp(reply) if reply.has_content() else None
        message, digest = sent[node]
        asked, answered = message.metadata.message_id, reply.metadata.reply_to_message_id
        if (asked and answered not in ("", asked)) or (stamp is not None and stamp.answers not in ("", digest)):
            logger.warning("client %s answered an older message; the answer is not used", name)
            return False
        del sent[node]
        return True

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
        self.leave_out(client, reason)
        return False
