"""The two halves of a training round: what is asked of clients, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord

from fed_unlearn.arrays import Arrays


@dataclass(frozen=True)
class AskedRound:
    """A round whose messages are made, and that waits for replies.

    Attributes
    ----------
    number : int
        Running number over all experiences, from 1.
    arrays, record : dict of ndarray, ArrayRecord
        The model that the round starts from, twice.
    config : ConfigRecord
        Configuration as the inner strategy completed it.
    messages : tuple of Message
        What is to be sent.
    clients : mapping of int to str
        Clients that the messages go to, by node.
    is_refused : bool
        Whether the inner strategy would ask nobody; then nothing is sent.
    """

    number: int
    arrays: Arrays
    record: ArrayRecord
    config: ConfigRecord
    messages: tuple[Message, ...] = ()
    clients: Mapping[int, str] = field(default_factory=dict)
    is_refused: bool = False


@dataclass(frozen=True)
class TrainingRound:
    """What one round gave.

    Attributes
    ----------
    arrays : dict of ndarray
        The aggregated model; the round's start where nothing usable came back.
    config : ConfigRecord
        Configuration as the inner strategy completed it.
    train_metrics : MetricRecord or None
        Metrics of training as the inner strategy aggregated them.
    update_norms : tuple of float
        Length of each client's change; empty unless asked for.
    longest : float
        The longest change of the training so far that is not the longest of its round.
    trained : frozenset of str
        Clients whose model was used.
    failed : mapping of str to str
        Why no model of a client was used, without data of its own; clients that were not asked since they are left out
        are among them.
    """

    arrays: Arrays
    config: ConfigRecord
    train_metrics: MetricRecord | None
    update_norms: tuple[float, ...]
    longest: float
    trained: frozenset[str]
    failed: Mapping[str, str]
