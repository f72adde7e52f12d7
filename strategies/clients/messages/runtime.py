"""The runtime's own Grid: what is passed on to it, how its nodes are waited for, and whose ledger a message is of."""

from __future__ import annotations

import copy
import logging
import time
from abc import ABC
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from fed_unlearn import protocol
from fed_unlearn.errors import FedUnlearnError

logger = logging.getLogger("fed_unlearn.strategies")

_POLL_SECONDS = 0.1


class NobodyThereError(FedUnlearnError):
    """No node is connected, or none could say which client it is."""


class RuntimeGrid(Grid, ABC):
    """The part of a Grid that the runtime's own does.

    Parameters
    ----------
    grid : Grid
        Grid of the runtime.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._stays = False
        self._obey: Callable[[], None] = lambda: None

    @contextmanager
    def staying(self, obey: Callable[[], None]) -> Iterator[None]:
        """Serve a server that stays, for the time of a ``with`` block: nodes are not waited for, since they wake it.

        Parameters
        ----------
        obey : callable
            Called before every exchange. It raises where the server is to stop.
        """
        self._stays, self._obey = True, obey
        try:
            yield
        finally:
            self._stays, self._obey = False, lambda: None

    @property
    def can_wait(self) -> bool:
        """Whether clients are waited for. A server that stays does not: they wake it."""
        return not self._stays and not answers_at_once(self._grid)

    def obey(self) -> None:
        """Raise where the server is to stop."""
        self._obey()

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Fetch replies to pushed messages."""
        return self._grid.pull_messages(message_ids)

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


def answers_at_once(grid: Grid) -> bool:
    """Whether a Grid delivers messages and has their answers within one call, as the in-process one; none is lost."""
    return bool(getattr(grid, "answers_at_once", False))


def clients_may_come(grid: Grid) -> bool:
    """Whether it makes sense to wait for clients that are away: not where a grid answers at once."""
    return grid.can_wait if isinstance(grid, RuntimeGrid) else not answers_at_once(grid)


def wait_for_nodes(grid: Grid, min_nodes: int, timeout: float) -> list[int]:
    """Wait until so many nodes are there; return all that are, sorted.

    Raises
    ------
    NobodyThereError
        If no node comes in time. Some nodes, but fewer than asked for, are warned of.
    """
    deadline = time.monotonic() + timeout
    while len(nodes := sorted(grid.get_node_ids())) < min_nodes:
        if time.monotonic() > deadline:
            if not nodes:
                raise NobodyThereError(f"no node is connected after {timeout:.0f} s; expected {min_nodes}")
            logger.warning("%d nodes are connected, not %d: they go on", len(nodes), min_nodes)
            break
        time.sleep(_POLL_SECONDS)
    return nodes


def with_ledger(
    messages: Sequence[Message], ledger: str, attempts: Sequence[protocol.RequestAttempt] = ()
) -> list[Message]:
    """The messages, each with its ledger and the server's versions; the contents that came stay as they are.

    Parameters
    ----------
    messages : sequence of Message
    ledger : str
        Identity of the ledger. Empty to leave it out.
    attempts : sequence of RequestAttempt
        The attempts that they belong to.

    Raises
    ------
    FedUnlearnError
        If a message is one of secure aggregation.
    """
    if any(protocol.SECURE_AGGREGATION_KEY in message.content for message in messages):
        raise FedUnlearnError(f"a message of secure aggregation was to be sent; {protocol.HIDDEN_REPLIES}")
    if not ledger:
        return list(messages)
    versions, of_attempts = protocol.Versions.own().to_record(), protocol.attempts_record(attempts)
    record = ConfigRecord({**protocol.ledger_record(ledger), **versions, **of_attempts})
    contents, told = dict[int, RecordDict](), list[Message]()
    for message in messages:
        known = contents.get(id(message.content))
        if known is None:
            known = RecordDict({**message.content, protocol.LEDGER_KEY: record})
            contents[id(message.content)] = known
        message = copy.copy(message)
        message.content = known
        told.append(message)
    return told


def with_round(messages: Sequence[Message], number: int) -> list[Message]:
    """The messages, those of the library's own with the number of the round; the contents that came stay as they are.

    Mods and training functions of apps read it in every message.

    Parameters
    ----------
    messages : sequence of Message
    number : int
        Number of the last training round.
    """
    contents, told = dict[int, RecordDict](), list[Message]()
    for message in messages:
        config = protocol.config_of(message)
        if message.metadata.message_type not in protocol.OWN_MESSAGES or protocol.SERVER_ROUND in config:
            told.append(message)
            continue
        known = contents.get(id(message.content))
        if known is None:
            numbered = ConfigRecord({**config, protocol.SERVER_ROUND: number})
            known = contents[id(message.content)] = RecordDict({**message.content, protocol.CONFIG_KEY: numbered})
        message = copy.copy(message)
        message.content = known
        told.append(message)
    return told


def with_arrivals(
    messages: Iterable[Message], arrivals: Mapping[str, ConfigRecord], clients: Mapping[int, str]
) -> list[Message]:
    """The messages, each with when the samples of its client arrive; the contents that came stay as they are.

    Parameters
    ----------
    messages : iterable of Message
    arrivals : mapping of str to ConfigRecord
        Record of when each client's samples arrive, by client.
    clients : mapping of int to str
        Client by node.
    """
    told = []
    for message in messages:
        record = arrivals.get(clients.get(message.metadata.dst_node_id, ""))
        if record is not None and message.metadata.message_type in protocol.READS_SAMPLES:
            message = copy.copy(message)
            message.content = RecordDict({**message.content, protocol.ARRIVALS_KEY: record})
        told.append(message)
    return told
