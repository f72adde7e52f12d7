"""Exchanges of messages with clients, counted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fed_unlearn import protocol
from fed_unlearn.plan import Retry
from fed_unlearn.strategies.clients.messages.bundles import Bundles
from fed_unlearn.strategies.clients.messages.delivery import Delivery, Question, Returns
from fed_unlearn.strategies.clients.messages.exchange import DeviceUse, Traffic
from fed_unlearn.strategies.clients.messages.owners import OwnerPost
from fed_unlearn.strategies.clients.messages.runtime import answers_at_once, with_ledger, with_round

logger = logging.getLogger("fed_unlearn.strategies")

_TRAIN = frozenset({protocol.TRAIN, protocol.STATISTICS})


class Exchange:
    """Sends messages over the runtime's own Grid.

    An answer belongs to the message whose id it names, whoever made it: for a client that went away, Flower's
    SuperLink answers in its own name.

    Parameters
    ----------
    grid : Grid
        Grid of the runtime.
    name_of : callable
        What a node's client is called in the log.
    retry : Retry
        How clients that answered with an error, or went away, are asked again.
    ledger : str
        Identity of the ledger, which every message carries. Empty to leave it out.

    Attributes
    ----------
    pauses : tuple of float
        Seconds that are waited before each try; the first one is 0.
    owners : OwnerPost
        What owners of clients' data ask for and are answered: it travels with these messages.
    server_round : int
        Number of the last training round, which every message of the library's own carries.
    attempts : sequence of RequestAttempt
        The attempts that messages belong to, which every message says.
    """

    def __init__(self, grid: Grid, name_of: Callable[[int], str], retry: Retry, ledger: str = "") -> None:
        self.grid = grid
        self.ledger = ledger
        self.owners = OwnerPost()
        self.server_round = 0
        self.attempts: Sequence[protocol.RequestAttempt] = ()
        self._bundles = Bundles()
        self.traffic = Traffic()
        self.messages_sent = 0
        self.device_use: dict[DeviceUse, int] = {}
        self._name_of = name_of
        self.pauses = (0.0, *(retry.backoff_seconds * 2**times for times in range(retry.count)))
        self.return_seconds = retry.return_seconds

    def send(
        self,
        messages: list[Message],
        timeout: float | None,
        returns: Returns | None = None,
        obey: Callable[[], None] = lambda: None,
    ) -> list[Message]:
        """Send, wait, and count; of each client the first answer to what it was sent, and no other.

        Parameters
        ----------
        messages : list of Message
        timeout : float or None
            Seconds; the answers that have come by then are returned.
        returns : Returns, optional
            Finds clients that come back, which are asked again.
        obey : callable, optional
            Called while it waits. It raises where the server is to stop.
        """
        if not messages:
            return []
        self._note_round(messages)
        told = with_ledger(with_round(messages, self.server_round), self.ledger, self.attempts)
        questions = self._questions(self.owners.addressed(told))
        if answers_at_once(self.grid):
            heard = self._at_once(questions, timeout)
        else:
            self._bundles.pack(questions)
            delivery = Delivery(self.grid, questions, timeout, returns, self.return_seconds, obey)
            heard = self._bundles.opened(delivery.answers())
        replies: list[Message] = []
        for question, reply in heard:
            if not self._is_answer(question, reply):
                continue
            replies.append(self.owners.take(reply))
            if reply.has_content():
                self.traffic.bytes_received += size_of(reply.content)
                self.traffic.note_passes(
                    question.message.metadata.message_type.rpartition(".")[2],
                    protocol.read_count(reply, protocol.FORWARD_PASSES),
                    protocol.read_count(reply, protocol.BACKWARD_PASSES),
                )
                self._note_device(reply)
        times = sum(question.times for question in questions)
        self.messages_sent += times
        self.traffic.messages += times
        self.traffic.bytes_sent += sum(question.times * question.size for question in questions)
        return replies

    def _note_round(self, messages: Sequence[Message]) -> None:
        for message in messages:
            number = protocol.config_of(message).get(protocol.SERVER_ROUND)
            if message.metadata.message_type in _TRAIN and isinstance(number, int):
                self.server_round = max(self.server_round, number)

    def _questions(self, messages: Sequence[Message]) -> list[Question]:
        sizes: dict[int, tuple[str, int]] = {}
        questions: list[Question] = []
        for message in messages:
            known = sizes.get(id(message.content))
            if known is None:
                known = sizes[id(message.content)] = protocol.digest_of(message), size_of(message.content)
            questions.append(Question(message, *known, self._name_of(message.metadata.dst_node_id)))
        return questions

    def _at_once(self, questions: Sequence[Question], timeout: float | None) -> Iterator[tuple[Question, Message]]:
        """The answers of a Grid that delivers and answers in one call; late ones may be among them."""
        answers = self.grid.send_and_receive([question.message for question in questions], timeout=timeout)
        asked = {question.message.metadata.message_id: question for question in questions}
        for reply in answers:
            question = asked.get(reply.metadata.reply_to_message_id)
            if question is None:
                name = self._name_of(reply.metadata.src_node_id)
                logger.warning("client %s answered an older message; the answer is not used", name)
            elif question.answered:
                logger.warning("client %s answered twice; the first answer counts", question.client)
            elif question.is_lost_by(reply):
                logger.warning("client %s did not get the message or could not answer it", question.client)
            else:
                yield question, reply

    def _is_answer(self, question: Question, reply: Message) -> bool:
        """Whether a reply is of the client that was asked, and made for this very message."""
        node = reply.metadata.src_node_id
        if node != question.node:
            logger.warning("node %d answered for client %s; the answer is not used", node, question.client)
            return False
        stamp = protocol.read_stamp(reply) if reply.has_content() else None
        if stamp is not None and stamp.answers not in ("", question.digest):
            logger.warning("client %s answered an older message; the answer is not used", question.client)
            return False
        question.answered = True
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
