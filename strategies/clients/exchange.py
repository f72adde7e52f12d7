"""Messages to nodes and their first answers, asked again after errors, and counted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fed_unlearn import protocol

logger = logging.getLogger("fed_unlearn.strategies")


@dataclass
class Traffic:
    """Messages sent, bytes both ways, and sample passes that clients reported: the cost of something.

    Attributes
    ----------
    messages : int
        Instructions sent to clients.
    bytes_sent, bytes_received : int
        Of all records.
    forward_passes, backward_passes : int
    """

    messages: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    forward_passes: int = 0
    backward_passes: int = 0

    def add(self, more: Traffic) -> None:
        """Count more of it."""
        self.messages += more.messages
        self.bytes_sent += more.bytes_sent
        self.bytes_received += more.bytes_received
        self.forward_passes += more.forward_passes
        self.backward_passes += more.backward_passes

    def divided(self, count: int) -> list[Traffic]:
        """Equal parts of it, the first ones larger by what is left over."""
        body = asdict(self)
        return [
            Traffic(**{name: value // count + (index < value % count) for name, value in body.items()})
            for index in range(count)
        ]

    @property
    def passes(self) -> int:
        """Sample passes, a backward pass counted as two forward."""
        return self.forward_passes + 2 * self.backward_passes


@dataclass(frozen=True)
class DeviceUse:
    """On which device a client answered a type of message."""

    client: str
    message: str
    device: str
    cuda_visible_devices: str


class Exchange:
    """Sends messages over the runtime's own Grid.

    Parameters
    ----------
    grid : Grid
        The runtime's own.
    name_of : callable
        What a node's client is called in the log.
    retries : int
        How often a client that answered with an error is asked again.
    backoff_seconds : float
        Waited before it is asked again the first time; twice as long before every further time.
    """

    def __init__(self, grid: Grid, name_of: Callable[[int], str], *, retries: int, backoff_seconds: float) -> None:
        self.grid = grid
        self.traffic = Traffic()
        self.device_use: dict[DeviceUse, int] = {}
        self._name_of = name_of
        self._retries = retries
        self._backoff_seconds = backoff_seconds

    def tries(self) -> Iterator[int]:
        """Numbers of tries, from 0, each but the first after a pause."""
        for retry in range(self._retries + 1):
            if retry:
                time.sleep(self._backoff_seconds * 2 ** (retry - 1))
            yield retry

    def send(self, messages: list[Message], timeout: float | None) -> list[Message]:
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
        for reply in self.grid.send_and_receive(messages, timeout=timeout):
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
        if node not in sent:
            logger.warning("client %s answered twice; the first answer counts", self._name_of(node))
            return False
        stamp = protocol.read_stamp(reply) if reply.has_content() else None
        message, digest = sent[node]
        asked, answered = message.metadata.message_id, reply.metadata.reply_to_message_id
        if (asked and answered not in ("", asked)) or (stamp is not None and stamp.answers not in ("", digest)):
            logger.warning("client %s answered an older message; the answer is not used", self._name_of(node))
            return False
        del sent[node]
        return True

    def _note_device(self, reply: Message) -> None:
        stamp = protocol.read_stamp(reply)
        if stamp is not None:
            use = DeviceUse(stamp.client_id, reply.metadata.message_type, stamp.device, stamp.cuda_visible_devices)
            self.device_use[use] = self.device_use.get(use, 0) + 1


def size_of(records: RecordDict) -> int:
    """Bytes of all records: the data of arrays, the text of strings, 8 for a number."""
    total = 0
    for name, record in records.items():
        total += len(name)
        for key, value in record.items():
            total += len(key)
            data = getattr(value, "data", value)
            total += len(data) if isinstance(data, bytes | str) else 8 * len(data) if isinstance(data, list) else 8
    return total
