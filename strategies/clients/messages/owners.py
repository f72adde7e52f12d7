"""The post between the server and the owners of clients' data: it goes with the messages that are sent anyway."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from flwr.app import ConfigRecord, Message, RecordDict

from fed_unlearn import protocol
from fed_unlearn.errors import ProtocolError
from fed_unlearn.ledger import Ledger
from fed_unlearn.owner import OwnerAnswer


@dataclass(frozen=True)
class OwnerLetter:
    """What a node's reply said of its owner's requests.

    Attributes
    ----------
    client : str
        The client that the reply's stamp names. Empty where it has none that can be read.
    note : OwnerNote or None
        What it said; None where that cannot be read.
    problem : str
        What is wrong with it then.
    """

    client: str
    note: protocol.OwnerNote | None = None
    problem: str = ""


@dataclass
class MadeAnswers:
    """Digests of answers as they were last made. One counts until its request goes on.

    A server that stays has many requests that ended long ago; nothing is read of them anew.
    """

    _digests: dict[str, str] = field(default_factory=dict)
    _head: tuple[int, str] = (0, "")

    def digest(self, ledger: Ledger, request_id: str, make: Callable[[], OwnerAnswer]) -> str:
        """The digest of the answer about a request.

        Parameters
        ----------
        ledger : Ledger
        request_id : str
            Id of the request in the ledger.
        make : callable
            Makes the answer, where that is necessary.
        """
        self._follow(ledger)
        if request_id not in self._digests:
            self._digests[request_id] = make().digest()
        return self._digests[request_id]

    def _follow(self, ledger: Ledger) -> None:
        head = ledger.head()
        if head == self._head:
            return
        if self._digests:
            # The last event that was seen comes first; where it does not, a transaction was undone since.
            events = ledger.events(after=self._head[0] - 1)
            if not events or (events[0].sequence, events[0].digest) != self._head:
                self._digests.clear()
            for event in events[1:]:
                self._digests.pop(event.request_id or "", None)
        self._head = head


@dataclass
class OwnerPost:
    """Letters that have come with replies, by node, and answers that go with the next message to a node.

    The newest letter of a node counts: a node repeats what was not answered.

    Attributes
    ----------
    letters : dict of int to OwnerLetter
    receipts : dict of int to ConfigRecord
        Receipts by node, as :func:`fed_unlearn.protocol.receipts_record` makes them. They go with ``query.requests``
        until they are taken away.
    keepers : set of int
        Nodes that have said that they keep receipts; no other node is sent any.
    offered : dict of int to ConfigRecord
        The receipts for whose sake a node was asked last. It is done once: a node that refuses a receipt is offered it
        again with messages that are sent anyway.
    answers : dict of int to ConfigRecord
        Answers by node, as :func:`fed_unlearn.protocol.answers_record` makes them. They are sent until they are taken
        away.
    ask_due : bool
        Whether all clients are to be asked when requests are served next.
    made : MadeAnswers
    """

    letters: dict[int, OwnerLetter] = field(default_factory=dict)
    answers: dict[int, ConfigRecord] = field(default_factory=dict)
    receipts: dict[int, ConfigRecord] = field(default_factory=dict)
    keepers: set[int] = field(default_factory=set)
    offered: dict[int, ConfigRecord] = field(default_factory=dict)
    ask_due: bool = False
    made: MadeAnswers = field(default_factory=MadeAnswers)

    def take(self, reply: Message) -> Message:
        """Take the letter off a reply. Whoever reads the rest of it sees what other clients' replies carry."""
        if reply.metadata.message_type == protocol.IDENTIFY:
            self._note_keeper(reply)
        if not reply.has_content() or protocol.QUEUED_KEY not in reply.content:
            return reply
        stamp = protocol.read_stamp(reply)
        client = stamp.client_id if stamp is not None else ""
        try:
            letter = OwnerLetter(client, protocol.read_owner_note(reply))
        except ProtocolError as error:
            letter = OwnerLetter(client, problem=str(error))
        self.letters[reply.metadata.src_node_id] = letter
        return protocol.without_records(reply, protocol.QUEUED_KEY)

    def _note_keeper(self, reply: Message) -> None:
        node = reply.metadata.src_node_id
        self.keepers.discard(node)
        if reply.has_content() and protocol.keeps_receipts(reply):
            self.keepers.add(node)

    def collected(self, clients: Mapping[int, str]) -> dict[str, OwnerLetter]:
        """Take out the letters of the given nodes, by client. Who wrote one, the node decides, and never the letter."""
        found = {clients[node]: self.letters.pop(node) for node in list(self.letters) if node in clients}
        return {client: letter for client, letter in found.items() if letter.client == client}

    def nodes_to_ask(self) -> set[int]:
        """Nodes that are worth a message of their own: answers are for them, or receipts that they were not offered."""
        return {*self.answers, *(node for node, record in self.receipts.items() if self.offered.get(node) != record)}

    def addressed(self, messages: Sequence[Message]) -> list[Message]:
        """The messages, each with what is for its node; the contents that came stay as they are."""
        if not self.answers and not self.receipts:
            return list(messages)
        told: list[Message] = []
        for message in messages:
            if records := self._records_for(message):
                message = copy.copy(message)
                message.content = RecordDict({**message.content, **records})
            told.append(message)
        return told

    def _records_for(self, message: Message) -> dict[str, ConfigRecord]:
        """What goes with a message to its node."""
        node, records = message.metadata.dst_node_id, dict[str, ConfigRecord]()
        if node in self.answers:
            records[protocol.ANSWERS_KEY] = self.answers[node]
        if node in self.receipts and message.metadata.message_type == protocol.REQUESTS:
            records[protocol.RECEIPTS_KEY] = self.offered[node] = self.receipts[node]
        return records
