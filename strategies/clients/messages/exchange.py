"""The clients of a run: who they are, what they answered, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flwr.app import Message

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.output_rows import OutputRows
from fed_unlearn.requests import ClientScope, ForgetRequest
from fed_unlearn.strategies.clients.bounds.faults import fault_of

OTHER = "other"
"""Part of the passes of which nobody has said what they were for."""

_REASONS_TOLD = 10


class NobodyAnsweredError(FedUnlearnError):
    """No client answered as it should where at least one has to; the same may succeed later.

    Attributes
    ----------
    failed : mapping of str to str
        Why the answer of a client cannot be used, by client; empty where nobody answered at all.
    """

    def __init__(self, reason: str, failed: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.failed = dict(failed or {})


class ClientsFailedError(FedUnlearnError):
    """Clients are there, and none of them does what has to be done; the text has their own reasons."""

    @classmethod
    def of(cls, what: str, failed: Mapping[str, str]) -> ClientsFailedError:
        """The error for clients that failed, each with its reason."""
        return cls(f"{what}: {told_by_clients(failed)}; mend the clients and run it again: it goes on where it was")


def told_by_clients(failed: Mapping[str, str]) -> str:
    """The reasons of clients that failed, the first few in words.

    Parameters
    ----------
    failed : mapping of str to str
        What each client, or its runtime, said; by client.
    """
    reasons = [
        f"client {client}: {fault_of(reason.removeprefix(f'client {client}: ').removeprefix(f'client {client} '))}"
        for client, reason in failed.items()
    ]
    told = "; ".join(reasons[:_REASONS_TOLD])
    return f"{told}; and {len(reasons) - _REASONS_TOLD} more" if len(reasons) > _REASONS_TOLD else told


@dataclass
class Traffic:
    """Messages sent, bytes both ways, and sample passes that clients reported: the cost of something.

    Attributes
    ----------
    messages : int
        Instructions sent to clients.
    bytes_sent, bytes_received : int
        Bytes of all records that were sent and received.
    forward_passes, backward_passes : int
    parts : dict of str to (int, int)
        Forward and backward passes by what they were for; their sums are those above but for what earlier versions
        have written, which did not say it.
    """

    messages: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    forward_passes: int = 0
    backward_passes: int = 0
    parts: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.parts = {name: (forward, backward) for name, (forward, backward) in self.parts.items()}  # JSON has lists

    def note_passes(self, part: str, forward: int, backward: int) -> None:
        """Count sample passes of one part."""
        self.forward_passes += forward
        self.backward_passes += backward
        if forward or backward:
            known = self.parts.get(part, (0, 0))
            self.parts[part] = known[0] + forward, known[1] + backward

    def add(self, more: Traffic) -> None:
        """Count more of it."""
        for part, passes in more.parts.items():
            known = self.parts.get(part, (0, 0))
            self.parts[part] = known[0] + passes[0], known[1] + passes[1]
        self.messages += more.messages
        self.bytes_sent += more.bytes_sent
        self.bytes_received += more.bytes_received
        self.forward_passes += more.forward_passes
        self.backward_passes += more.backward_passes

    def divided(self, count: int) -> list[Traffic]:
        """Equal shares of it, the first ones larger by what is left over.

        The passes stand in a row, part after part, and are dealt out one after the other: so the parts of each share
        add up to its passes.
        """
        body = {name: value for name, value in vars(self).items() if name != "parts"}
        shares = [
            Traffic(**{name: value // count + (index < value % count) for name, value in body.items()})
            for index in range(count)
        ]
        dealt = (0, 0)
        for part, passes in self.parts.items():
            upto = dealt[0] + passes[0], dealt[1] + passes[1]
            for index, share in enumerate(shares):
                forward, backward = (
                    _dealt(last, index, count) - _dealt(first, index, count)
                    for first, last in zip(dealt, upto, strict=True)
                )
                if forward or backward:
                    share.parts[part] = forward, backward
            dealt = upto
        return shares

    @property
    def passes(self) -> int:
        """Sample passes, a backward pass counted as two forward."""
        return self.forward_passes + 2 * self.backward_passes

    @property
    def passes_by_part(self) -> dict[str, int]:
        """Sample passes by what they were for; what an earlier version did not say is ``"other"``."""
        known = {part: forward + 2 * backward for part, (forward, backward) in self.parts.items()}
        rest = self.passes - sum(known.values())
        return {**known, OTHER: rest} if rest else known


def _dealt(passes: int, index: int, count: int) -> int:
    """How many of so many passes, dealt out one after the other, one of the shares has."""
    return (passes - index + count - 1) // count


@dataclass(frozen=True)
class DeviceUse:
    """On which device a client answered a type of message."""

    client: str
    message: str
    device: str
    cuda_visible_devices: str


@dataclass(frozen=True)
class Answers:
    """What clients said to one message.

    Attributes
    ----------
    replies : dict of str to Message
        Replies with content, by client, sorted.
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
    class_names : dict of str to tuple of str
        What each client calls the classes, of those that say so.
    output_rows : dict of str to OutputRows or None
        What each client names as the output layer of its model; None where that has no plain rows.
    excluded_samples : dict of str to int
        How many of a client's samples were quarantined or tombstoned when it was identified.
    leaving : set of str
        Clients that are being forgotten, or were: never selected for training again, and asked about themselves alone.
    keys : dict of str to str
        SHA-256 of the public key of each client's node, where the runtime shows one.
    required : dict of str to int
        How many samples of requests each client's store must exclude, counted request by request.
    contested : dict of str to frozenset of int
        Nodes that give the same client id. None of them takes part until one is left.
    refused : dict of int to str
        Client id that a node gives and cannot have by its key, by node.
    known : set of str
        Clients that were ever met and have not left, whether they are there or not.
    kept_away : dict of int to (str, str)
        Nodes that are asked for nothing since something is wrong with them: the client, and what is wrong. A node that
        named no client is ``"of node N"``.
    committed : tuple of ForgetRequest
        Requests whose samples are forgotten: no client trains on those any more.
    holdings : dict of str to dict of str to int
        Number of samples of a request that each client said that it holds, 0 included; by request and client.
    max_share : float
        Largest share that one client may have in the weights and audit totals of all, see
        :attr:`fed_unlearn.strategies.UnlearningPlan.max_client_share`.
    put_by : set of str
        Clients that said in their last reply that they have put by what they keep for themselves: they are told how
        the attempt ends.
    """

    clients: dict[int, str] = field(default_factory=dict)
    tombstones: dict[str, str] = field(default_factory=dict)
    confirmed: dict[str, str] = field(default_factory=dict)
    class_count: int = 0
    class_samples: dict[str, tuple[int, ...]] = field(default_factory=dict)
    class_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    output_rows: dict[str, OutputRows | None] = field(default_factory=dict)
    excluded_samples: dict[str, int] = field(default_factory=dict)
    leaving: set[str] = field(default_factory=set)
    keys: dict[str, str] = field(default_factory=dict)
    required: dict[str, int] = field(default_factory=dict)
    contested: dict[str, frozenset[int]] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    kept_away: dict[int, tuple[str, str]] = field(default_factory=dict)
    committed: tuple[ForgetRequest, ...] = ()
    holdings: dict[str, dict[str, int]] = field(default_factory=dict)
    max_share: float = 0.5
    put_by: set[str] = field(default_factory=set)

    def name_of(self, node: int) -> str:
        """What a node's client is called in the log."""
        return self.clients.get(node, f"of node {node}")

    @property
    def staying(self) -> dict[int, str]:
        """Client by node, without those that leave; sorted by client."""
        return {node: client for node, client in self.clients.items() if client not in self.leaving}

    def take_back(self, request: ForgetRequest) -> None:
        """Let a client that was to be forgotten, and is not, take part again; other requests change nothing."""
        if isinstance(request.scope, ClientScope):
            self.leaving.discard(request.scope.client)


def client_order(client: str) -> tuple[int, int, str]:
    """Sort key of client ids: numbers by value, then names."""
    return (0, int(client), "") if client.isdecimal() else (1, 0, client)
