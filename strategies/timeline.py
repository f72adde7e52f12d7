"""A timeline: training experiences and forget requests, in the order in which they come."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from flwr.app import ConfigRecord

from fed_unlearn.requests import ForgetRequest


@dataclass(frozen=True, kw_only=True)
class Train:
    """A training experience.

    Attributes
    ----------
    rounds : int
        At least 0.
    train_config, evaluate_config : ConfigRecord
        For the clients, as in Flower. Where samples arrive over time, the first says which experience is trained
        (``"experience"``) and how many have arrived (``"arrived"``), counted from 1.
    """

    rounds: int
    train_config: ConfigRecord = field(default_factory=ConfigRecord)
    evaluate_config: ConfigRecord = field(default_factory=ConfigRecord)


@dataclass(frozen=True)
class Forget:
    """Requests that come together.

    Attributes
    ----------
    requests : tuple of ForgetRequest
        Each with an id, so that a timeline that is run again knows which ones it has submitted.
    train_config : ConfigRecord or None
        Of repair; that of the last training round where None.
    """

    requests: tuple[ForgetRequest, ...]
    train_config: ConfigRecord | None = None


Timeline = tuple[Train | Forget, ...]


def requests_of(entry: Train | Forget) -> list[str]:
    """The ids of an entry's requests; none of a training experience."""
    return [request.id for request in entry.requests] if isinstance(entry, Forget) else []


def repair_config(entry: Train | Forget) -> ConfigRecord | None:
    """What requests are repaired by once an entry has come to its end; None where its training rounds have said so."""
    return None if isinstance(entry, Train) and entry.rounds else entry.train_config


def last_begun(
    timeline: Sequence[Train | Forget], known: Collection[str], finished: int, training_is_open: bool
) -> int:
    """How far an earlier run of a timeline has come.

    Parameters
    ----------
    timeline : sequence of Train or Forget
    known : collection of str
        The requests that the ledger has.
    finished : int
        Training experiences that have come to their end.
    training_is_open : bool
        Whether the next one has begun.

    Returns
    -------
    int
        Index of the last entry that was begun, be it finished or not; -1 where none was. One that only repeats
        requests of entries before it does not count: nothing tells whether it was begun.
    """
    begun, trained = -1, 0
    named: set[str] = set()
    for index, entry in enumerate(timeline):
        if isinstance(entry, Train):
            trained += 1
            if trained > finished:
                return index if training_is_open else begun
            begun = index
        else:
            own = set(requests_of(entry)) - named
            named |= own
            if own & set(known):
                begun = index
    return begun
