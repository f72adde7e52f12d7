"""What a run knows of its model, of the training that is open, and of the requests that are being tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from flwr.app import ArrayRecord, ConfigRecord
from pydantic import PlainSerializer, PlainValidator

from fed_unlearn.arrays import Arrays
from fed_unlearn.audits.pooled import Audit
from fed_unlearn.errors import InvalidModelError
from fed_unlearn.ledger import Ledger
from fed_unlearn.records import StoredArrays
from fed_unlearn.strategies.clients.messages.exchange import Traffic
from fed_unlearn.strategies.training.figures import TrainingFigures

_ROUND_KEY = "server-round"
"""What Flower's strategies add to the configuration of every round."""


@dataclass
class ServedModel:
    """The last accepted model, and what is known of it.

    Attributes
    ----------
    arrays : dict of ndarray
        The model.
    audit : Audit or None
        Audit of the model, without requests.
    first_audit : Audit or None
        The audit of the model before the first request.
    update_norm : float or None
        Median norm of the clients' changes in the last training round; None before any.
    train_config : ConfigRecord
        Configuration of the last training round.
    repair_rounds : int
        Number of repair rounds so far, over all requests.
    """

    arrays: Arrays
    audit: Audit | None = None
    first_audit: Audit | None = None
    update_norm: float | None = None
    train_config: ConfigRecord = field(default_factory=ConfigRecord)
    repair_rounds: int = 0


@dataclass
class OpenTraining:
    """A training experience that is not at its end.

    Attributes
    ----------
    name : str
        Name of the experience, for instance ``"train:2"``.
    first : int
        Number of rounds before it, over all experiences.
    rounds, done : int
        Number of its rounds, and of those that are done.
    config : ConfigRecord
        The configuration as it was given, before the inner strategy completed it.
    arrays : dict of ndarray or None
        The model of its rounds so far; None where the gate has seen all of them.
    figures : TrainingFigures
        What its rounds so far gave and cost.
    longest : float
        The longest change of a client in its rounds so far that is not the longest of its round.
    changed_configs : dict of int to ConfigRecord
        Configurations that replaced the first one, by the first round that each holds for, counted from 1.
    evaluated : int
        Number of its rounds whose evaluation is over.
    """

    name: str
    first: int
    rounds: int
    done: int
    config: ConfigRecord
    arrays: Arrays | None = None
    figures: TrainingFigures = field(default_factory=TrainingFigures)
    longest: float = 0.0
    changed_configs: dict[int, ConfigRecord] = field(default_factory=dict)
    evaluated: int = 0

    def note_config(self, number: int, given: Mapping[str, Any]) -> None:
        """Record what a round is configured with, where that is not what the round before was.

        Parameters
        ----------
        number : int
            Number of the round, counted from 1.
        given : mapping
            The configuration, before the inner strategy completes it.
        """
        new = {name: value for name, value in given.items() if name != _ROUND_KEY}
        before = config_of_round(self.config, self.changed_configs, number - 1)
        self.changed_configs = {known: value for known, value in self.changed_configs.items() if known < number}
        if new != {name: value for name, value in before.items() if name != _ROUND_KEY}:
            self.changed_configs[number] = ConfigRecord(new)

    @classmethod
    def after(cls, experiences: Sequence[Experience], rounds: int, config: ConfigRecord | None) -> OpenTraining:
        """The experience that follows others, before its first round."""
        return cls(
            name=f"train:{len(experiences) + 1}",
            first=sum(experience.rounds for experience in experiences),
            rounds=rounds,
            done=0,
            config=config if config is not None else ConfigRecord(),
        )


@dataclass(frozen=True)
class Experience:
    """A training experience that has come to its end.

    Attributes
    ----------
    rounds : int
        Number of its rounds.
    train_config : ConfigRecord
        The configuration as it was given.
    figures : TrainingFigures or None
        What its rounds gave and cost; None where an earlier version trained it.
    changed_configs : mapping of int to ConfigRecord
        Configurations that replaced the first one, by round, as in :class:`OpenTraining`.
    """

    rounds: int
    train_config: ConfigRecord
    figures: TrainingFigures | None = None
    changed_configs: Mapping[int, ConfigRecord] = field(default_factory=dict)

    @property
    def configs(self) -> list[ConfigRecord]:
        """The configuration of each of its rounds, before the inner strategy completed it."""
        numbers = range(1, self.rounds + 1)
        return [config_of_round(self.train_config, self.changed_configs, number) for number in numbers]


def config_of_round(first: ConfigRecord, changed: Mapping[int, ConfigRecord], number: int) -> ConfigRecord:
    """What a round is configured with: what was last changed up to it, else what the experience began with."""
    return changed[max(known)] if (known := [start for start in changed if start <= number]) else first


@dataclass(frozen=True, kw_only=True)
class OpenAttempt:
    """The attempt that is being made: enough to make it again after a crash.

    Attributes
    ----------
    requests : tuple of str
        Ids of its requests.
    number : int
        Number of the attempt, counted from 1 over all methods.
    method : str
        Name of the method.
    stronger : int
        Number of times that the method's setting is made stronger.
    method_state : str or None
        Digest of the arrays of a server-side method's state; None before the first one is written.
    method_body : mapping
        The rest of that state.
    seconds : float
        Wall time of the attempt up to that state.
    traffic : Traffic
        Messages, bytes and sample passes of the attempt up to that state.
    """

    requests: tuple[str, ...]
    number: int
    method: str
    stronger: int
    method_state: str | None = None
    method_body: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    traffic: Traffic = field(default_factory=Traffic)


@dataclass(frozen=True, kw_only=True)
class MethodState:
    """The state of a method after some of its steps.

    A method that remembers more declares a frozen dataclass of its own below this one. Its fields are plain JSON
    types, :data:`~fed_unlearn.records.StoredArrays`, or mappings of them: they are written down between steps.

    Attributes
    ----------
    step : int
        Number of steps done.
    arrays : dict of ndarray
        The candidate model so far.
    done : bool
        Whether the method has come to its end, and ``arrays`` is its result.
    """

    step: int
    arrays: StoredArrays
    done: bool = False

    def followed_by(self, arrays: Arrays, *, done: bool = False, **changes: Any) -> Self:
        """The state after one more step.

        Parameters
        ----------
        arrays : dict of ndarray
            The candidate model after the step.
        done : bool
            Whether the method has come to its end.
        **changes
            Values of other fields that the step has changed.
        """
        return replace(self, step=self.step + 1, arrays=arrays, done=done, **changes)


def ordered(arrays: Arrays, reference: ArrayRecord, ledger: Path) -> Arrays:
    """The ledger's model in the order of the given one: Flower's strategies go by position."""
    shapes = {name: tuple(array.shape) for name, array in reference.items()}
    if {name: value.shape for name, value in arrays.items()} != shapes:
        raise InvalidModelError(
            f"{ledger}: its model has other arrays than initial_arrays; give it a ledger of its own"
        )
    return {name: arrays[name] for name in shapes}


if TYPE_CHECKING:
    StoredAudit = Audit
else:
    StoredAudit = Annotated[Any, PlainSerializer(Audit.to_json), PlainValidator(Audit.from_json)]
    """A field of type Audit, as :mod:`fed_unlearn.records` writes it."""


@dataclass(frozen=True, kw_only=True)
class OpenCommit:
    """The commit that is being made: from here on its requests are committed, crash or not.

    Attributes
    ----------
    requests : tuple of str
        Ids of its requests.
    committing : str
        Digest of the accepted model, which is on disk.
    outcomes : mapping of str to mapping
        Outcomes by request, as :meth:`~fed_unlearn.strategies.outcomes.RequestOutcome.to_json` gives them.
    audit : Audit
        The audit of the accepted model, without requests.
    holders : mapping of str to tuple of str
        Clients that must write a request's tombstones before the commit, by request.
    away : tuple of str
        Clients that could not be asked, and so may hold samples of class requests.
    repair_rounds : int
        Number of repair rounds so far, over all requests.
    update_norm : float or None
        Median norm of the clients' changes, as in :class:`ServedModel`.
    moved : mapping of str to float
        How far the sample requests of a client moved the model, as a multiple of the clip norm, by client.
    """

    requests: tuple[str, ...]
    committing: str
    outcomes: Mapping[str, Mapping[str, Any]]
    audit: StoredAudit
    holders: Mapping[str, tuple[str, ...]]
    away: tuple[str, ...]
    repair_rounds: int
    update_norm: float | None
    moved: Mapping[str, float] = field(default_factory=dict)


_LOOKS_DUE = "relapse-looks-due"


def looks_due(ledger: Ledger) -> dict[str, bool]:
    """What no audit of all committed requests has followed yet: its name, and whether a request may be reopened."""
    due = ledger.state(_LOOKS_DUE)
    return due if isinstance(due, dict) else {}


def owe_look(ledger: Ledger, after: str, *, may_reopen: bool) -> None:
    """Note that such an audit is to follow; call it in the transaction of what it follows."""
    if ledger.committed():
        ledger.set_state(_LOOKS_DUE, {**looks_due(ledger), after: may_reopen})


def settle_look(ledger: Ledger, after: str) -> None:
    """Note that it has followed."""
    due = looks_due(ledger)
    if due.pop(after, None) is not None:
        ledger.set_state(_LOOKS_DUE, due or None)


def rounds_of_open_training(ledger: Ledger) -> tuple[str, int, int] | None:
    """The training experience that is open: its name, its rounds that are done, and all of its rounds."""
    record = ledger.state("training")
    return (str(record["name"]), int(record["done"]), int(record["rounds"])) if isinstance(record, dict) else None
