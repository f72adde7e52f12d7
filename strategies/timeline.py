"""A timeline: training experiences and forget requests, in the order in which they come."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from flwr.app import ConfigRecord

from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.durable import DurableState
from fed_unlearn.strategies.state import looks_due


@dataclass(frozen=True, kw_only=True)
class Train:
    """A training experience.

    Attributes
    ----------
    rounds : int
        Number of rounds, at least 0.
    train_config, evaluate_config : ConfigRecord
        Configurations for the clients, as in Flower. Where samples arrive over time, the first says which experience is
        trained (``"experience"``) and how many have arrived (``"arrived"``), counted from 1.
    not_before : float or None
        Seconds since the epoch. The experience, and whatever follows it in the timeline, waits until then.
    """

    rounds: int
    train_config: ConfigRecord = field(default_factory=ConfigRecord)
    evaluate_config: ConfigRecord = field(default_factory=ConfigRecord)
    not_before: float | None = None


@dataclass(frozen=True)
class Forget:
    """Requests that come together.

    Attributes
    ----------
    requests : tuple of ForgetRequest
        The requests, each with an id, so that a timeline that is run again knows which ones it has submitted.
    train_config : ConfigRecord or None
        Training configuration of repair; that of the last training round where None.
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


@dataclass(frozen=True, kw_only=True)
class LedgerView:
    """What the ledger says of a timeline at one moment.

    Attributes
    ----------
    finished : int
        Number of training experiences that have come to their end.
    training_is_open : bool
        Whether the next experience has begun.
    known : frozenset of str
        Ids of all requests that the ledger has.
    open : frozenset of str
        Ids of those that are not at their end.
    is_amid_requests : bool
        Whether some request neither waits nor has come to its end.
    is_look_due : bool
        Whether something has happened that no audit of all committed requests has followed.
    """

    finished: int
    training_is_open: bool = False
    known: frozenset[str] = frozenset()
    open: frozenset[str] = frozenset()
    is_amid_requests: bool = False
    is_look_due: bool = False

    @classmethod
    def of(cls, state: DurableState, ledger: Ledger) -> LedgerView:
        """The view of a ledger as it is now."""
        resting = (Status.WAITING, Status.HELD)
        return cls(
            finished=len(state.experiences()),
            training_is_open=state.load_training() is not None,
            known=frozenset(entry.id for entry in ledger.entries()),
            open=frozenset(ledger.open_ids()),
            is_amid_requests=state.open_work() is not None
            or any(entry.status not in resting for entry in ledger.pending()),
            is_look_due=bool(looks_due(ledger)),
        )


@dataclass(frozen=True)
class Step:
    """What a run of a timeline does next.

    Attributes
    ----------
    index : int
        Index of the entry; the length of the timeline where something is left to do after the last one.
    place : int or None
        Index of the entry that it is reported under; None where it is reported under none.
    train : Train or None
        The experience that is trained; None where requests are served and nothing is trained.
    repair_config : ConfigRecord or None
        Configuration of repair; that of the last training round where None.
    """

    index: int
    place: int | None
    train: Train | None = None
    repair_config: ConfigRecord | None = None


def next_step(
    timeline: Sequence[Train | Forget], done: Step | None, at_start: LedgerView, now: LedgerView
) -> Step | None:
    """Which entry of the timeline is next.

    Parameters
    ----------
    timeline : sequence of Train or Forget
        All entries.
    done : Step or None
        The step before; None for the first one of this run.
    at_start, now : LedgerView
        The ledger when this run began, and as it is.

    Returns
    -------
    Step or None
        None where nothing is left to do.
    """
    begun = last_begun(timeline, at_start)
    first_open = next((index for index, entry in enumerate(timeline) if now.open & set(requests_of(entry))), None)
    for index in range(done.index + 1 if done is not None else 0, len(timeline)):
        entry = timeline[index]
        is_due = _is_due(timeline, index, begun, at_start, now)
        if is_due or (index == begun and now.is_amid_requests):
            train = entry if isinstance(entry, Train) and is_due else None
            return Step(index, index if is_due else first_open, train, repair_config(entry))
    if done is not None and done.index >= len(timeline):
        return None
    if done is None and first_open is not None:
        return Step(len(timeline), first_open, None, repair_config(timeline[begun]))
    return Step(len(timeline), None) if now.is_amid_requests or now.is_look_due else None


def _is_due(timeline: Sequence[Train | Forget], index: int, begun: int, at_start: LedgerView, now: LedgerView) -> bool:
    """Whether an entry is to be run: what an earlier process has done of it is not repeated."""
    entry = timeline[index]
    if isinstance(entry, Train):
        return trainings(timeline, index) > now.finished
    ids = set(requests_of(entry))
    return bool(ids - now.known or ids & now.open) and (index >= begun or not ids <= at_start.known)


def due_part(timeline: Sequence[Train | Forget], now: float) -> Sequence[Train | Forget]:
    """The entries of a timeline before the first one that has to wait.

    Parameters
    ----------
    timeline : sequence of Train or Forget
        All entries.
    now : float
        Seconds since the epoch.
    """
    for index, entry in enumerate(timeline):
        if isinstance(entry, Train) and entry.not_before is not None and entry.not_before > now:
            return timeline[:index]
    return timeline


def next_due(timeline: Sequence[Train | Forget], now: float) -> float:
    """When the first entry that has to wait is due, in seconds since the epoch; infinite where none waits."""
    waiting = timeline[len(due_part(timeline, now)) :]
    return next((entry.not_before for entry in waiting if isinstance(entry, Train) and entry.not_before), math.inf)


def trainings(timeline: Sequence[Train | Forget], index: int) -> int:
    """Number of training experiences among the entries up to an index, that one included."""
    return sum(isinstance(entry, Train) for entry in timeline[: index + 1])


def last_begun(timeline: Sequence[Train | Forget], view: LedgerView) -> int:
    """How far an earlier run of a timeline has come.

    Parameters
    ----------
    timeline : sequence of Train or Forget
        All entries.
    view : LedgerView
        The ledger as that run left it.

    Returns
    -------
    int
        Index of the last entry that was begun, be it finished or not; -1 where none was. An entry that only repeats
        requests of entries before it does not count: nothing tells whether it was begun.
    """
    begun = -1
    named: set[str] = set()
    for index, entry in enumerate(timeline):
        if isinstance(entry, Train):
            if trainings(timeline, index) > view.finished:
                return index if view.training_is_open else begun
            begun = index
        else:
            own = set(requests_of(entry)) - named
            named |= own
            if own & view.known:
                begun = index
    return begun
