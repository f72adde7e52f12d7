"""Who takes part in a run, what they said, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass, field

from flwr.app import Message

from fed_unlearn.requests import ClientScope, ForgetRequest


@dataclass(frozen=True)
class Answers:
    """What clients said to one message.

    Attributes
    ----------
    replies : dict of str to Message
        With content, by client, sorted.
    refused : dict of str to str
        Clients for which the request itself cannot be served, and why.
    failed : dict of str to str
        Clients that did not do it, and why: an error, or an answer that must not be used.
    silent : dict of str to str
        Clients that are not connected, or did not answer in time; those that were barred for their answer, too.
    """

    replies: dict[str, Message]
    refused: dict[str, str]
    failed: dict[str, str]
    silent: dict[str, str]

    @property
    def anything(self) -> bool:
        """Whether any client answered, rightly or wrongly."""
        return bool(self.replies or self.refused or self.failed)


@dataclass
class Roster:
    """The clients of a run, by node.

    Attributes
    ----------
    clients : dict of int to str
        Client id by node id, sorted by client.
    tombstones : dict of str to str
        The tombstone digest that each client last showed on ``query.identify`` or ``train.confirm``.
    confirmed : dict of str to str
        The tombstone digest that each client last confirmed; none where a client never had anything to confirm.
    class_count : int
        Number of classes of the task.
    class_samples : dict of str to tuple of int
        Training samples of each class at each client, forgotten ones included.
    excluded_samples : dict of str to int
        How many of a client's samples were quarantined or tombstoned when it was identified.
    leaving : set of str
        Clients that are being forgotten, or were: never selected for training again, and asked about themselves alone.
    known : set of str
        Clients that were ever met and have not left, whether they are there or not.
    """

    clients: dict[int, str] = field(default_factory=dict)
    tombstones: dict[str, str] = field(default_factory=dict)
    confirmed: dict[str, str] = field(default_factory=dict)
    class_count: int = 0
    class_samples: dict[str, tuple[int, ...]] = field(default_factory=dict)
    excluded_samples: dict[str, int] = field(default_factory=dict)
    leaving: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)

    @property
    def staying(self) -> dict[int, str]:
        """Client by node, without those that leave; sorted by client."""
        return {node: client for node, client in self.clients.items() if client not in self.leaving}

    def take_back(self, request: ForgetRequest) -> None:
        """Let a client that was to be forgotten, and is not, take part again; other requests change nothing."""
        if isinstance(request.scope, ClientScope):
            self.leaving.discard(request.scope.client)

    def node_of(self, client: str) -> int | None:
        """The node of a client; None where it is not reachable."""
        return next((node for node, name in self.clients.items() if name == client), None)


def client_order(client: str) -> tuple[int, int, str]:
    """Sort key of client ids: numbers by value, then names."""
    return (0, int(client), "") if client.isdecimal() else (1, 0, client)
