"""The contract of a server-side method: a state in, the state after one more federated round out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Generic, Self, TypeVar

from flwr.app import ConfigRecord
from flwr.serverapp.strategy import Strategy

from fed_unlearn.arrays import Arrays
from fed_unlearn.errors import FedUnlearnError, InvalidParameterError
from fed_unlearn.methods.base import Scope
from fed_unlearn.methods.parts.validation import require_fields
from fed_unlearn.protocol.instructions import arrived_of
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.state import Experience, MethodState

if TYPE_CHECKING:  # methods are registered before the parts of a call are there
    from fed_unlearn.strategies.clients.grid import EligibleGrid
    from fed_unlearn.strategies.training.history import HistoryStore
    from fed_unlearn.strategies.training.trainer import Trainer

State = TypeVar("State", bound=MethodState)


class MethodFailedError(FedUnlearnError, RuntimeError):
    """The method cannot go on, for instance since no client answered; the served model is unchanged."""


@dataclass(frozen=True, kw_only=True)
class ServerWork:
    """What a method works with.

    Attributes
    ----------
    request : ForgetRequest
        What is to be forgotten; the first of several.
    others : tuple of ForgetRequest
        What is to be forgotten in the same pass; empty but for methods that share rounds.
    attempt : int
        Number of the attempt, counted from 1.
    seed : int
        Seed of all that is drawn.
    served : dict of ndarray
        The model that serves.
    initial : dict of ndarray or None
        The model that the first experience started from; None where the model was trained elsewhere.
    experiences : sequence of Experience
        All training experiences so far.
    history : HistoryStore or None
        Stored rounds; None where none are kept.
    grid : EligibleGrid
        The clients. The leaving client of a client request is reached by ``train.unlearn`` only.
    timeout : float
        Seconds that each exchange waits for answers.
    trainer : Trainer
        A trainer around a fresh copy of the inner strategy.
    train_config : ConfigRecord
        Configuration of the last training round, as repair changes it.
    excluded_classes : tuple of int
        Classes that were forgotten so far.
    leaving : str or None
        The client that a client request is about; of several requests, the first one's.
    leaving_is_reachable : bool
        Whether that client takes part, and those of the others.
    clip_norm : float or None
        Norm of a usual change of a training round; None where nothing was trained here.
    request_norm : float or None
        Bound on what the leaving client changes in all its steps, as a multiple of the clip norm; None for none.
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
    clip_norm: float | None = None
    request_norm: float | None = None
    others: tuple[ForgetRequest, ...] = ()

    @property
    def requests(self) -> tuple[ForgetRequest, ...]:
        """All that is to be forgotten, in order."""
        return (self.request, *self.others)

    @property
    def arrived(self) -> int:
        """Training experiences whose samples are there already; 0 for all."""
        return arrived_of(self.train_config)


@dataclass(frozen=True, kw_only=True)
class ServerMethod(ABC, Generic[State]):
    """A method that the server runs round by round: a frozen set of hyper-parameters.

    A step depends on nothing but the work and the state. A step that a crash cut short is done again, with the same
    bytes. Fields may declare bounds in their annotations, such as those of
    :mod:`fed_unlearn.strategies.server_methods.parameters`.

    Attributes
    ----------
    name : str
        The name under which the method is registered.
    paper, needs : str
        The source, and what the method reads, for listings.
    scopes : tuple of str
        Scopes of the requests that the method serves.
    is_retraining : bool
        Whether the method trains from scratch.
    shares_rounds : bool
        Whether one pass serves several requests of one scope, ``work.others`` too.
    state_class : type
        The class of its states: :class:`MethodState`, or a frozen dataclass below it.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    scopes: ClassVar[tuple[Scope, ...]]
    needs: ClassVar[str]
    is_retraining: ClassVar[bool] = False
    shares_rounds: ClassVar[bool] = False
    state_class: ClassVar[type[MethodState]] = MethodState

    def __post_init__(self) -> None:
        require_fields(self.name, self)

    @classmethod
    def unsuited_to(cls, strategy: type[Strategy]) -> str | None:
        """Why the method can serve no request where such a strategy trains; None where it can.

        Parameters
        ----------
        strategy : type
            Class of the inner strategy.
        """
        return None

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
    def begin(self, work: ServerWork) -> State:
        """The state before the first step; nothing is sent."""

    @abstractmethod
    def advance(self, work: ServerWork, state: State) -> State:
        """One more step: a federated round, or a few.

        Raises
        ------
        MethodFailedError
            If the method cannot go on. The state is as it was: the step can be tried again.
        """

    def mended(self, work: ServerWork, state: State) -> State | None:
        """The state after a round in which what the method cost is won back, where the gate asks for repair.

        None for a round of ordinary repair, which is what there is where this is not overridden.

        Parameters
        ----------
        work : ServerWork
        state : MethodState
            The last one, done.
        """
        return None

    @abstractmethod
    def stronger(self) -> Self:
        """The same method with a stronger setting, for another attempt."""

    def strengthened(self, times: int) -> Self:
        """The method after :meth:`stronger` was called so many times, or fewer where its parameters' bounds end it.

        Parameters
        ----------
        times : int
            Number of calls, at least 0.
        """
        method = self
        for _ in range(times):
            try:
                method = method.stronger()
            except InvalidParameterError:
                break
        return method
