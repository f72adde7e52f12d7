"""The contract of a server-side method: a state in, the state after one more federated round out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from flwr.app import ConfigRecord
from pydantic import BaseModel, ConfigDict, ValidationError

from fed_unlearn.arrays import Arrays
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.methods.base import Scope
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.clients.grid import EligibleGrid
from fed_unlearn.strategies.training.history import HistoryStore
from fed_unlearn.strategies.training.oracle import Experience
from fed_unlearn.strategies.training.trainer import Trainer

Scalar = bool | int | float | str | None
Fact = Scalar | list[Scalar]
"""What JSON carries and gives back as it was."""

_CANDIDATE, _MEMORY = "candidate", "memory/"


class _Body(BaseModel):
    """What JSON carries of a state."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    groups: list[tuple[str, list[str]]]
    facts: dict[str, Fact]
    done: bool


class MethodFailedError(FedUnlearnError, RuntimeError):
    """A server-side method that cannot go on, for instance since no client answered; the served model is unchanged."""


@dataclass(frozen=True)
class MethodState:
    """Everything that a method carries from one step to the next.

    Attributes
    ----------
    step : int
        Steps done.
    arrays : dict of ndarray
        The candidate so far.
    memory : mapping of str to dict of ndarray
        Further arrays, such as momenta of the inner strategy.
    facts : mapping of str to (bool, int, float, str, None, or list of those)
    done : bool
        Whether ``arrays`` is what the method came to.
    """

    step: int
    arrays: Arrays
    memory: Mapping[str, Arrays] = field(default_factory=dict)
    facts: Mapping[str, Fact] = field(default_factory=dict)
    done: bool = False

    def packed(self) -> tuple[Arrays, dict[str, object]]:
        """The state as arrays for one safetensors file, and a body for JSON; :meth:`unpacked` reads both.

        The body has the order of the arrays, which files need not keep.
        """
        groups = {_CANDIDATE: self.arrays, **{_MEMORY + key: arrays for key, arrays in self.memory.items()}}
        packed = {
            f"{index}/{name}": value for index, group in enumerate(groups.values()) for name, value in group.items()
        }
        names = [(group, list(arrays)) for group, arrays in groups.items()]
        return packed, _Body(step=self.step, groups=names, facts=dict(self.facts), done=self.done).model_dump()

    @classmethod
    def unpacked(cls, arrays: Arrays, body: Mapping[str, object]) -> Self:
        """Read what :meth:`packed` gave.

        Raises
        ------
        FedUnlearnError
            If the body is not that of a state, or the arrays are those of another one.
        """
        try:
            read = _Body.model_validate(body)
            groups = {
                group: {name: arrays[f"{index}/{name}"] for name in names}
                for index, (group, names) in enumerate(read.groups)
            }
            candidate = groups.pop(_CANDIDATE)
        except (KeyError, ValidationError) as error:
            raise FedUnlearnError(f"not the state of a server-side method: {error}; begin the attempt anew") from error
        memory = {key.removeprefix(_MEMORY): group for key, group in groups.items()}
        return cls(read.step, candidate, memory, read.facts, read.done)

    def followed_by(self, arrays: Arrays, facts: Mapping[str, Fact] | None = None, *, done: bool = False) -> Self:
        """The state after one more step, facts that are given put in place of the old ones."""
        return replace(self, step=self.step + 1, arrays=arrays, facts={**self.facts, **(facts or {})}, done=done)


@dataclass(frozen=True, kw_only=True)
class ServerWork:
    """What a method works with.

    Attributes
    ----------
    request : ForgetRequest
    attempt : int
        From 1.
    seed : int
    served : dict of ndarray
        The model that serves.
    initial : dict of ndarray or None
        What the first experience started from; None where the model was trained elsewhere.
    experiences : sequence of Experience
        All so far.
    history : HistoryStore or None
        Stored rounds; None where none are kept.
    grid : EligibleGrid
        The leaving client of a client request is reached by ``train.unlearn`` only.
    timeout : float
        Seconds that each exchange waits for answers.
    trainer : Trainer
        Around a fresh copy of the inner strategy.
    train_config : ConfigRecord
        Of the last training round, as repair changes it.
    excluded_classes : tuple of int
        Forgotten so far.
    leaving : str or None
        The client that a client request is about.
    leaving_is_reachable : bool
    """

    request: ForgetRequest
    attempt: int
    seed: int
    served: Arrays
    initial: Arrays | None
    experiences: Sequence[Experience]
    history: HistoryStore | None
    grid: EligibleGrid
    timeout: float
    trainer: Trainer
    train_config: ConfigRecord
    excluded_classes: tuple[int, ...] = ()
    leaving: str | None = None
    leaving_is_reachable: bool = False

    @property
    def arrived(self) -> int:
        """Training experiences whose samples are there already; 0 for all."""
        value = self.train_config.get("arrived", 0)
        return value if isinstance(value, int) else 0


@dataclass(frozen=True, kw_only=True)
class ServerMethod(ABC):
    """A method that the server runs round by round: a frozen set of hyper-parameters.

    A step depends on nothing but the work and the state, so that one that a crash cut short is done again with the
    same bytes.

    Attributes
    ----------
    paper, needs : str
        The source, and what the method reads, for listings.
    scopes : tuple of str
    is_retraining : bool
        Whether it trains from scratch: the last resort.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    scopes: ClassVar[tuple[Scope, ...]]
    needs: ClassVar[str]
    is_retraining: ClassVar[bool] = False

    def cannot_serve(self, work: ServerWork) -> str | None:
        """Why the request cannot be served by this method as things stand; None where it can."""
        if work.request.scope.kind not in self.scopes:
            return f"it serves {' and '.join(self.scopes)} requests, not {work.request.scope.kind} ones"
        return None

    def _initial(self, work: ServerWork) -> Arrays:
        """The model that the first experience started from.

        Raises
        ------
        MethodFailedError
            If there is none.
        """
        if work.initial is None:
            raise MethodFailedError("the model was trained elsewhere; the first one is needed")
        return work.initial

    @abstractmethod
    def begin(self, work: ServerWork) -> MethodState:
        """The state before the first step; nothing is sent."""

    @abstractmethod
    def advance(self, work: ServerWork, state: MethodState) -> MethodState:
        """One more step: a federated round, or a few.

        Raises
        ------
        MethodFailedError
            If the method cannot go on. The state is as it was: the step can be tried again.
        """

    @abstractmethod
    def stronger(self) -> Self:
        """The same method with a stronger setting, for another attempt."""
