"""Messages on their way: pushed, polled for, and each matched with the answer that counts."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from flwr.app import Message
from flwr.serverapp import Grid

from fed_unlearn.text import printable

logger = logging.getLogger("fed_unlearn.strategies")

LONGEST_POLL_SECONDS = 0.25
_SHORTEST_POLL_SECONDS = 0.05
_POLL_SHARE = 0.1
"""A poll waits for so much of the time that has passed, so that short exchanges are not made longer by it."""

_LOOK_SECONDS = 1.0
_MOST_TIMES = 5


@dataclass(eq=False)
class Question:
    """One message of an exchange.

    Attributes
    ----------
    message : Message
        The message as it was sent last.
    digest : str
        Digest of what the message says.
    size : int
        Bytes of its records.
    client : str
        What its client is called.
    answered : bool
    times : int
        Number of times that the message was sent.
    ids : list of str
        What the runtime calls it, each time that it was sent.
    lost_at : float or None
        Time at which the runtime said that the node is gone, or that the message or the answer is lost, in seconds of
        the monotonic clock; None where it has not said so.
    """

    message: Message
    digest: str
    size: int
    client: str
    answered: bool = False
    times: int = 1
    ids: list[str] = field(default_factory=list)
    lost_at: float | None = None

    @property
    def node(self) -> int:
        """Where it was sent last."""
        return self.message.metadata.dst_node_id

    def is_lost_by(self, reply: Message) -> bool:
        """Whether a reply is the runtime's own, which says that the client gives none.

        Flower's SuperLink answers in its own name for a node that went away, and for what was lost on the way.
        """
        return reply.has_error() and reply.metadata.src_node_id != self.node

    def sent_to(self, node: int) -> None:
        """Make the message anew, for the node at which its client is now."""
        told, content = self.message.metadata, self.message.content
        self.message = Message(content, node, told.message_type, ttl=told.ttl, group_id=told.group_id)
        self.times += 1
        self.lost_at = None


class Returns(Protocol):
    """Finds clients that come back."""

    def find(self, clients: Collection[str]) -> Mapping[str, int]:
        """The node of each of these clients that is there again, and is who it says."""


class Delivery:
    """Pushes the questions of one exchange, and polls until each is answered, nobody is left to answer, or time is up.

    A client whose node goes away, or starts anew, does not answer any more what it was sent. It is asked again as soon
    as it is back. Answers to messages of earlier exchanges are never asked for.

    Parameters
    ----------
    grid : Grid
        Grid of the runtime.
    questions : sequence of Question
    timeout : float or None
        Seconds for the whole; None for no limit.
    returns : Returns, optional
        Finds clients that come back; nobody is waited for where it is missing.
    patience : float
        Seconds that a client may take to come back.
    obey : callable, optional
        Called before every poll. It raises where the server is to stop.
    """

    def __init__(
        self,
        grid: Grid,
        questions: Sequence[Question],
        timeout: float | None,
        returns: Returns | None = None,
        patience: float = 0.0,
        obey: Callable[[], None] = lambda: None,
    ) -> None:
        self._grid = grid
        self._questions = questions
        self._returns = returns
        self._patience = patience
        self._obey = obey
        self._started = time.monotonic()
        self._deadline = math.inf if timeout is None else self._started + timeout
        self._next_look = self._started + _LOOK_SECONDS
        self._open: dict[str, Question] = {}
        self._lost: list[Question] = []
        self._activated = self._activations()

    def answers(self) -> Iterator[tuple[Question, Message]]:
        """The answers as they come, each with its question."""
        self._push(self._questions)
        while True:
            self._obey()
            for reply in self._grid.pull_messages(list(self._open)) if self._open else ():
                question = self._open.pop(reply.metadata.reply_to_message_id, None)
                if question is None:
                    logger.warning("a second answer came, or one that nothing was asked for; it is not used")
                elif question.is_lost_by(reply):
                    self._note_lost(question, reply.error.reason)
                else:
                    for name in question.ids:
                        self._open.pop(name, None)
                    yield question, reply
            now = time.monotonic()
            if now >= self._deadline or not (self._open or self._missed(now)):
                return
            if self._returns is not None and now >= self._next_look:
                self._ask_again(self._returns, now)
                self._next_look = time.monotonic() + _LOOK_SECONDS
            time.sleep(min(self._pause(), max(0.0, self._deadline - time.monotonic())))

    def _pause(self) -> float:
        share = _POLL_SHARE * (time.monotonic() - self._started)
        return min(LONGEST_POLL_SECONDS, max(_SHORTEST_POLL_SECONDS, share))

    def _push(self, questions: Sequence[Question]) -> None:
        ids = list(self._grid.push_messages([question.message for question in questions]))
        if len(ids) != len(questions):  # a simulation leaves out what it cannot deliver
            known = {question.message.metadata.message_id for question in questions} & set(ids)
            named = [question.message.metadata.message_id for question in questions]
            ids = [name if name in known else "" for name in named]
        for name, question in zip(ids, questions, strict=True):
            if name:
                question.ids.append(name)
                self._open[name] = question
            else:
                self._note_lost(question, "the runtime does not take the message")

    def _note_lost(self, question: Question, reason: str | None) -> None:
        if any(name in self._open for name in question.ids):  # it was sent once more meanwhile
            return
        question.lost_at = time.monotonic()
        waits = self._returns is not None and self._patience > 0 and question.times < _MOST_TIMES
        if waits:
            self._lost.append(question)
        then = f"it is asked again if it is back within {self._patience:.0f} s" if waits else "it is not waited for"
        kind, told = question.message.metadata.message_type, printable(reason or "no reason was given")
        logger.warning("client %s did not get or answer %s: %s; %s", question.client, kind, told, then)

    def _missed(self, now: float) -> list[Question]:
        """The lost questions whose clients may still come back."""
        self._lost = [
            question
            for question in self._lost
            if question.lost_at is not None and now < question.lost_at + self._patience
        ]
        return self._lost

    def _ask_again(self, returns: Returns, now: float) -> None:
        """Send what was lost to the clients that are back, and to those whose node has started anew."""
        again = {question.client: question for question in self._missed(now)}
        activated = self._activations()
        for question in self._open.values():
            before, since = self._activated.get(question.node), activated.get(question.node)
            if before != since and since is not None and question.times < _MOST_TIMES:
                again[question.client] = question
        found = returns.find(again.keys()) if again else {}
        missing = {question.node for client, question in again.items() if client not in found}
        self._activated = {**activated, **{node: self._activated.get(node, "") for node in missing}}
        for client, node in found.items():
            logger.warning("client %s is back at node %d, and is asked again", client, node)
            again[client].sent_to(node)
        if found:
            self._push([again[client] for client in found])

    def _activations(self) -> dict[int, str]:
        """When each node that is connected was last activated, where the runtime says so."""
        if self._returns is None:
            return {}
        return {info.node_id: info.last_activated_at for info in self._grid.get_nodes()}
