"""A Flower ``Grid`` that calls the ClientApp directly, in one process, without Ray and sockets."""

from __future__ import annotations

import copy
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import TypeVar

from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MetricRecord,
    RecordDict,
    UserConfig,
    UserConfigValue,
)
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from fed_unlearn.arrays import PackedArray
from fed_unlearn.errors import InvalidParameterError

LOGGER = logging.getLogger(__name__)

Value = TypeVar("Value")

RUN_ID = 1
"""The run id of every in-process run. A process has one run."""

SERVER_NODE_ID = 0
"""The node id of the server. Clients have 1, 2, ..."""


def set_task_identity(run_id: int = RUN_ID, node_id: int = SERVER_NODE_ID) -> None:
    """Set the run and the sender of messages that are built outside of a Flower run.

    ``flwr.app.Message`` reads both from a class that is internal to Flower. Only this function uses that class.
    """
    from flwr.supercore.task_identity import TaskIdentity

    TaskIdentity.run_id = run_id
    TaskIdentity.task_id = run_id
    TaskIdentity.node_id = node_id


def copy_records(content: RecordDict) -> RecordDict:
    """Copy every container of a record dictionary. Arrays share their bytes, which cannot be changed.

    Parameters
    ----------
    content : RecordDict
        The content of a message, or the state of a context.

    Returns
    -------
    RecordDict
        A copy. A change of the copy or of ``content`` does not change the other.
    """
    copied = content.copy()
    for name, record in content.items():
        copied[name] = _copy_record(record)
    return copied


def _copy_record(record: ArrayRecord | MetricRecord | ConfigRecord) -> ArrayRecord | MetricRecord | ConfigRecord:
    copied = record.copy()
    if isinstance(copied, ArrayRecord):
        for key, array in copied.items():
            if not isinstance(array, PackedArray) and array.stype == "numpy.ndarray":
                copied[key] = PackedArray(array.dtype, tuple(array.shape), bytes(array.data))
    elif isinstance(copied, MetricRecord):
        _copy_lists(copied)
    else:
        _copy_lists(copied)
    return copied


def _copy_lists(record: MutableMapping[str, Value]) -> None:
    """Replace every list of a record by a copy of it; other values cannot be changed."""
    for key, value in record.items():
        if isinstance(value, list):
            record[key] = copy.copy(value)


class InProcessGrid(Grid):
    """A Grid that calls one ClientApp in this process for every node, one after the other.

    Client ``k`` is node ``k + 1``, with ``partition-id`` ``k`` and ``num-partitions`` in its node configuration, as on
    Flower's simulation runtime. Messages and replies are copied, so that no client shares an array or a list with
    another or with the server. If a client raises an exception, the reply is an error, and the changes of its context
    are undone. A message to an unknown node is dropped. ``KeyboardInterrupt`` passes through.

    Parameters
    ----------
    client_app : ClientApp
        The ClientApp, called as ``client_app(message, context)``.
    count : int
        Number of clients, at least 1.
    run_config : mapping of str to bool, int, float or str
        ``context.run_config`` of every client.
    node_configs : sequence of mappings, optional
        One mapping for each client, added to the partition in its ``context.node_config``.
    keys : sequence of bytes, optional
        One public key for each client, as :meth:`get_nodes` shows it. Without them, nodes have no keys.

    prepare : callable, optional
        Called with messages and their clients' contexts before they are delivered. It must change neither.
    prepared_at_once : int
        Maximum number of messages that one call prepares.

    Raises
    ------
    InvalidParameterError
        If ``count`` is less than 1, or there is not one node configuration or key for each client.
    """

    answers_at_once = True
    """Replies are there when a call returns: nobody has to poll for them."""

    def __init__(
        self,
        client_app: ClientApp,
        count: int,
        *,
        run_config: Mapping[str, UserConfigValue] | None = None,
        node_configs: Sequence[Mapping[str, UserConfigValue]] | None = None,
        keys: Sequence[bytes] | None = None,
        prepare: Callable[[Sequence[tuple[Message, Context]]], None] | None = None,
        prepared_at_once: int = 1,
    ) -> None:
        if count < 1:
            raise InvalidParameterError(f"an in-process grid of {count} clients was asked for; at least 1 is needed")
        if node_configs is not None and len(node_configs) != count:
            raise InvalidParameterError(
                f"{len(node_configs)} node configurations were given for {count} clients; one for each is needed"
            )
        if keys is not None and len(keys) != count:
            raise InvalidParameterError(f"{len(keys)} keys were given for {count} clients; one for each is needed")
        set_task_identity()
        self._keys = list(keys or ())
        self._client_app = client_app
        self._prepare, self._prepared_at_once = prepare, prepared_at_once
        self._run = Run.create_empty(RUN_ID)
        self._message_numbers = itertools.count(1)
        self._replies: dict[str, Message] = {}
        self._contexts = {
            client + 1: self._new_context(client, count, run_config or {}, node_configs[client] if node_configs else {})
            for client in range(count)
        }

    @staticmethod
    def _new_context(
        client: int, count: int, run_config: Mapping[str, UserConfigValue], extra: Mapping[str, UserConfigValue]
    ) -> Context:
        node_config: UserConfig = {"partition-id": client, "num-partitions": count, **extra}
        return Context(
            run_id=RUN_ID, node_id=client + 1, node_config=node_config, state=RecordDict(), run_config=dict(run_config)
        )

    def set_run(self, run: Run) -> None:
        """Replace the description of the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """The description of the run."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Build a message. Flower prefers ``Message(...)`` by now."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """The node ids, in the order of the clients."""
        return list(self._contexts)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """The nodes, each with its key where keys were given."""
        return [
            NodeInfo(node_id=node, public_key=self._keys[node - 1] if self._keys else b"")
            for node in self.get_node_ids()
        ]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver messages and keep the replies until they are pulled.

        Returns
        -------
        list of str
            Ids of the messages with a known destination, in the order sent.
        """
        message_ids = []
        for message in self._prepared(messages):
            reply = self._deliver(message)
            if reply is not None:
                message_ids.append(message.metadata.message_id)
                self._replies[message.metadata.message_id] = reply
        return message_ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies to the given messages, in the order of the ids. Each reply is returned once."""
        return [self._replies.pop(message_id) for message_id in message_ids if message_id in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Deliver messages and return the replies in the order sent. ``timeout`` has no effect."""
        replies = []
        for message in self._prepared(messages):
            reply = self._deliver(message)
            if reply is not None:
                replies.append(reply)
        return replies

    def _prepared(self, messages: Iterable[Message]) -> Iterator[Message]:
        """The messages, each once those that are delivered with it are prepared."""
        if self._prepare is None:
            yield from messages
            return
        waiting = list(messages)
        for start in range(0, len(waiting), self._prepared_at_once):
            part = waiting[start : start + self._prepared_at_once]
            known = [(message, self._contexts.get(message.metadata.dst_node_id)) for message in part]
            self._prepare([(message, context) for message, context in known if context is not None])
            yield from part

    def _deliver(self, message: Message) -> Message | None:
        """The reply to a message; None where its destination is unknown."""
        message.metadata.__dict__["_message_id"] = str(next(self._message_numbers))
        context = self._contexts.get(message.metadata.dst_node_id)
        if context is None:
            LOGGER.debug("message to unknown node %s dropped", message.metadata.dst_node_id)
            return None
        delivered = copy.copy(message)
        delivered.__dict__["_metadata"] = copy.copy(message.metadata)
        delivered.content = copy_records(message.content)
        state_before = copy_records(context.state)
        try:
            reply = self._client_app(delivered, context)
            if not isinstance(reply, Message):
                raise TypeError(f"the ClientApp returned a {type(reply).__name__}; a Message was expected")
            if reply.has_content():
                reply.content = copy_records(reply.content)
        except (Exception, SystemExit) as error:  # a client that exits ends its own process alone elsewhere
            LOGGER.debug("client of node %s raised", context.node_id, exc_info=True)
            context.state = state_before
            reason = f"{type(error).__name__}: {error}"
            reply = Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=delivered)
        reply.metadata.__dict__["_message_id"] = str(next(self._message_numbers))
        return reply
