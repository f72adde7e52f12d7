"""The Grid that the inner strategy sees: eligible nodes only, in a fixed order, replies checked and counted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid

from fed_unlearn import protocol
from fed_unlearn.plan import Retry
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.shapes import Shapes
from fed_unlearn.strategies.clients.admission import Identification, contested_among
from fed_unlearn.strategies.clients.book import ClientBook, node_keys
from fed_unlearn.strategies.clients.claims import bounded_claims
from fed_unlearn.strategies.clients.messages.exchange import Answers, DeviceUse, Roster, Traffic
from fed_unlearn.strategies.clients.messages.messenger import Exchange
from fed_unlearn.strategies.clients.messages.owners import OwnerPost
from fed_unlearn.strategies.clients.messages.runtime import wait_for_nodes, with_arrivals, with_ledger
from fed_unlearn.strategies.clients.naming import NamingGrid
from fed_unlearn.strategies.clients.returning import ReturningClients
from fed_unlearn.strategies.clients.stamps import NEEDS_QUARANTINES, StampCheck

logger = logging.getLogger("fed_unlearn.strategies")


class EligibleGrid(NamingGrid):
    """A Grid over identified clients; every message of a run goes through it.

    Nodes and replies come sorted by client id. Left out and named is a reply that was made for an older message, a
    second one of the same client, a ``train`` reply that was not made on the retained view, and any reply of a client
    whose tombstones are not those that it has confirmed. One that confirms, and has not all that it confirmed before,
    is barred. Clients that leave are not among the nodes.

    Parameters
    ----------
    grid : Grid
        Grid of the runtime.
    retry : Retry, optional
        How clients that answered with an error, or went away, are asked again.
    arrivals : mapping of str to ConfigRecord, optional
        Record of :func:`fed_unlearn.protocol.arrivals_record` that goes with every message that the client answers by
        its samples, the inner strategy's included; by client.
    book : ClientBook, optional
        What the ledger knows of clients. Messages carry the identity of its ledger.
    rounds : int
        Training rounds so far, which messages tell.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        retry: Retry | None = None,
        arrivals: Mapping[str, ConfigRecord] | None = None,
        book: ClientBook | None = None,
        rounds: int = 0,
    ) -> None:
        super().__init__(grid, Roster())
        self._arrivals = arrivals or {}
        self._book = book
        identity = book.ledger.identity if book is not None else ""
        self._exchange = Exchange(grid, self.roster.name_of, retry or Retry(), identity)
        self._exchange.server_round = rounds
        self._stamps = StampCheck(self.roster, lambda stamp, node: None, self.bar, self.leave_out)
        self._found: Identification | None = None

    def identify(
        self,
        min_nodes: int,
        timeout: float,
        confirmed: Mapping[str, str],
        unheard: Callable[[str], Collection[protocol.RequestName]] = lambda client: (),
        served: Shapes | None = None,
    ) -> None:
        """Learn which client is behind which node, where that is not known yet.

        Left out and named is a client that fails although it is asked again, one that does not show the tombstones or
        quarantines that it should have, a node whose key belongs to another client, and all nodes that give one id.

        Parameters
        ----------
        min_nodes : int
            Number of nodes to wait for: simulated ServerApps start before nodes register.
        timeout : float
            Seconds to wait for nodes, and for their answers.
        confirmed : mapping of str to str
            The tombstone digest that each client last confirmed; it must show it.
        unheard : callable
            Requests whose tombstones a client may have written without the server having heard of it: with these
            taken away, its digest may be the one that it confirmed.
        served : dict of str to tuple of int, optional
            The shape of each array of the model that serves, which clients must fit.

        Raises
        ------
        NobodyThereError
            If no node comes, or none says which client it is.
        ClientsFailedError
            If the tasks of all clients send other arrays than that model has.
        """
        nodes = wait_for_nodes(self._grid, 1, 0.0) if self._stays else wait_for_nodes(self._grid, min_nodes, timeout)
        self._asked.update(nodes)
        self.roster.confirmed = dict(confirmed)
        found = Identification(self._exchange, self.roster, self.leave_out, unheard, timeout, served=served or {})
        if self._book is not None:
            self.roster.required = self._book.required()
            found = replace(found, key_problem=self._book.key_problem, keys=node_keys(self._grid))
        self._stamps = StampCheck(self.roster, found.shows_tombstones, self.bar, self.leave_out)
        self._found = found
        self._asked -= found.identify(set(nodes))
        claims, excessive = bounded_claims(self.roster)
        for client in sorted(excessive):
            said, counted = sum(self.roster.class_samples[client]), sum(claims[client])
            self.name(client, f"says that it holds {said} samples, over its share; it counts as if it held {counted}")

    def ask(
        self, message_type: str, content: RecordDict, timeout: float, clients: Collection[str] | None = None
    ) -> Answers:
        """Send one content to clients, and collect what they answer.

        Parameters
        ----------
        message_type : str
            Type of the message, one of the protocol's.
        content : RecordDict
        timeout : float
            Seconds to wait for answers.
        clients : collection of str, optional
            Clients to ask; all that stay where none are named.

        Returns
        -------
        Answers
            Every client asked is in exactly one of its parts.
        """
        return self.ask_each(
            message_type, dict.fromkeys(self.roster.staying.values() if clients is None else clients, content), timeout
        )

    def ask_each(self, message_type: str, contents: Mapping[str, RecordDict], timeout: float) -> Answers:
        """Send each client a content of its own, and collect what they answer; as :meth:`ask`.

        A client that answers with an error is asked again, after a while.
        """
        nodes = self._nodes()
        silent = {client: f"client {client} is not reachable" for client in contents if client not in nodes}
        answers = Answers({}, {}, {}, silent)
        asked = in_order = [client for client in nodes if client in contents]  # the roster is sorted by client
        for pause in self._exchange.pauses:
            if pause:
                time.sleep(pause)
                nodes = {**nodes, **self._nodes()}
            messages = [Message(contents[client], nodes[client], message_type) for client in asked]
            again = self._sort_answers(asked, self.send_and_receive(messages, timeout=timeout), message_type, answers)
            if not again:
                break
            asked = again
        for reason in (*answers.refused.values(), *answers.failed.values(), *answers.silent.values()):
            logger.warning("%s: %s", message_type, reason)
        return Answers(
            {client: answers.replies[client] for client in in_order if client in answers.replies},
            answers.refused,
            answers.failed,
            answers.silent,
        )

    def _nodes(self) -> dict[str, int]:
        """The node of each client that is connected."""
        connected = set(self._grid.get_node_ids())
        return {client: node for node, client in self.roster.clients.items() if node in connected}

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
                answers.failed[client] = f"client {client}: {protocol.error_of(reply)}"
                again.append(client)
                continue
            refusal = protocol.refusal_of(reply)
            if refusal is None:
                answers.replies[client] = reply
            else:
                part = answers.refused if refusal.invalid_request else answers.failed
                part[client] = f"client {client}: {refusal.reason.removeprefix(f'client {client}: ')}"
        for client in unheard:
            answers.failed.pop(client, None)
            reason = self.dropped.get(client)
            if reason is None:
                answers.silent[client] = f"client {client} did not answer {message_type}"
            else:
                barred = client not in self.roster.clients.values()
                (answers.silent if barred else answers.failed)[client] = f"client {client} is left out: {reason}"
        return again

    @contextmanager
    def attempting(self, requests: Sequence[ForgetRequest], number: int) -> Iterator[None]:
        """Say on every message which attempts it belongs to, for the time of a ``with`` block.

        Digests of what was asked are left out: a client that does not hold the samples could guess them.
        """
        self._exchange.attempts = [
            protocol.RequestAttempt(request_id=request.id, attempt=number) for request in requests
        ]
        try:
            yield
        finally:
            self._exchange.attempts = ()

    def connected(self) -> set[str]:
        """Clients that stay and can be reached."""
        return {self.roster.clients[node] for node in self.get_node_ids()}

    def has_new_nodes(self) -> bool:
        """Whether there are nodes that nobody has asked yet which client they are."""
        connected = set(self._grid.get_node_ids())
        waiting = set[int]().union(*contested_among(self.roster.contested, connected).values())
        if self._book is not None:
            self._asked -= self._book.no_longer_refused(self.roster, self._grid)
        return bool(connected - set(self.roster.clients) - self._asked - waiting)

    def reachable_leavers(self) -> list[str]:
        """Clients that leave and are still connected."""
        connected = set(self._grid.get_node_ids())
        return [
            client
            for node, client in self.roster.clients.items()
            if client in self.roster.leaving and node in connected
        ]

    @property
    def owners(self) -> OwnerPost:
        """What owners of clients' data have asked for, and what they are answered."""
        return self._exchange.owners

    def take_traffic(self) -> Traffic:
        """The cost since this was last asked."""
        taken, self._exchange.traffic = self._exchange.traffic, Traffic()
        return taken

    @property
    def traffic(self) -> Traffic:
        """The cost since it was last taken."""
        return self._exchange.traffic

    @property
    def messages_sent(self) -> int:
        """Number of messages that were ever sent here."""
        return self._exchange.messages_sent

    def take_device_use(self) -> dict[DeviceUse, int]:
        """How often clients answered on which device since this was last asked."""
        taken, self._exchange.device_use = self._exchange.device_use, {}
        return taken

    # ------------------------------------------------------------------ Flower's Grid

    def get_node_ids(self) -> Iterable[int]:
        """Eligible nodes, sorted by client."""
        self._obey()
        connected = set(self._grid.get_node_ids())
        return [node for node in self.roster.staying if node in connected]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send messages; replies come sorted by client, without those that must not be used."""
        self._obey()
        self.dropped.clear()
        told = with_arrivals(messages, self._arrivals, self.roster.clients)
        if self._book is not None and any(message.metadata.message_type in NEEDS_QUARANTINES for message in told):
            self.roster.required = self._book.required()
        returns = None if self._found is None else ReturningClients(self._grid, self._found, self._asked)
        heard = self._exchange.send(told, timeout, returns, self._obey)
        replies = [reply for reply in heard if self._stamps.is_usable(reply)]
        order = {node: position for position, node in enumerate(self.roster.clients)}
        return sorted(replies, key=lambda reply: order[reply.metadata.src_node_id])

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages without waiting."""
        told = with_arrivals(messages, self._arrivals, self.roster.clients)
        return self._grid.push_messages(with_ledger(told, self._exchange.ledger))

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Information on eligible nodes."""
        staying = self.roster.staying
        return [node for node in self._grid.get_nodes() if node.node_id in staying]
