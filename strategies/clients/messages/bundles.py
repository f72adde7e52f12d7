"""Models that travel as one array, to the clients that can read them so, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from flwr.app import Error, Message, RecordDict

from fed_unlearn import protocol
from fed_unlearn.errors import ProtocolError
from fed_unlearn.protocol import Versions
from fed_unlearn.strategies.clients.messages.delivery import Question

_UNREADABLE = 0  # Flower's number of an error of no known kind


class Bundles:
    """Bundles the models of messages, and opens those of answers.

    A node whose client has not said on ``query.identify`` that it reads bundles is sent none.
    """

    def __init__(self) -> None:
        self._readers: set[int] = set()

    def pack(self, questions: Sequence[Question]) -> None:
        """Bundle the models of all messages to clients that read them so. Equal contents stay one object."""
        packed: dict[int, RecordDict] = {}
        for question in questions:
            content = question.message.content
            if question.node not in self._readers:
                continue
            if id(content) not in packed:
                packed[id(content)] = protocol.bundled(content)
            question.message.content = packed[id(content)]

    def opened(self, heard: Iterable[tuple[Question, Message]]) -> Iterator[tuple[Question, Message]]:
        """The answers with their models as they were. One that cannot be read becomes an error."""
        for question, reply in heard:
            if reply.has_content() and protocol.is_bundled(reply.content):
                try:
                    reply.content = protocol.unbundled(reply.content)
                except ProtocolError as error:
                    reply = Message(Error(_UNREADABLE, f"it sent {error}"), reply_to=question.message)
            if reply.metadata.message_type == protocol.IDENTIFY:
                self._note_reader(reply)
            yield question, reply

    def _note_reader(self, reply: Message) -> None:
        node = reply.metadata.src_node_id
        self._readers.discard(node)
        if reply.has_content() and Versions.of_client(reply).protocol >= protocol.READS_BUNDLES:
            self._readers.add(node)
