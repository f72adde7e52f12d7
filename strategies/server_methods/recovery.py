"""Methods of two parts: the leaving client takes one step, and then those that stay train on in ordinary rounds."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar

from fed_unlearn import methods
from fed_unlearn.arrays import Arrays
from fed_unlearn.methods.base import Scope
from fed_unlearn.strategies.server_methods.base import ServerMethod, ServerWork
from fed_unlearn.strategies.server_methods.leaving import cannot_reach, unbounded
from fed_unlearn.strategies.server_methods.parameters import Rounds
from fed_unlearn.strategies.server_methods.parts import averaged, train_staying
from fed_unlearn.strategies.state import MethodState


@dataclass(frozen=True, kw_only=True)
class LeavingAndRecovery(ServerMethod[MethodState]):
    """The base of such methods. What follows ``recovery_rounds`` among the fields is for the client's method.

    Attributes
    ----------
    client_method : str
        The method of :mod:`fed_unlearn.methods` that the leaving client runs. It has the same parameters.
    bounds_by_plan : bool
        Whether the plan bounds the leaving client's change (``max_request_norm``). If not, the method does.
    recovery_rounds : int
        Ordinary rounds of the staying clients, at least 1.
    """

    scopes: ClassVar[tuple[Scope, ...]] = ("client",)
    client_method: ClassVar[str]
    bounds_by_plan: ClassVar[bool] = True

    recovery_rounds: Rounds = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        methods.create(self.client_method, **self.client_parameters)

    @property
    def client_parameters(self) -> dict[str, int | float]:
        """Hyper-parameters of the client's method."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "recovery_rounds"}

    def cannot_serve(self, work: ServerWork) -> str | None:
        """Without the leaving client, or without a length that bounds its change."""
        return super().cannot_serve(work) or (unbounded(work) if self.bounds_by_plan else None) or cannot_reach(work)

    def begin(self, work: ServerWork) -> MethodState:
        """The served model."""
        return MethodState(step=0, arrays=work.served)

    def advance(self, work: ServerWork, state: MethodState) -> MethodState:
        """The leaving client's step, and one ordinary round after the other."""
        if state.step == 0:
            return state.followed_by(self.left(work, state.step))
        arrays = averaged(train_staying(work, state.arrays, state.step))
        return state.followed_by(arrays, done=state.step >= self.recovery_rounds)

    @abstractmethod
    def left(self, work: ServerWork, step: int) -> Arrays:
        """The served model after the leaving client's step.

        Raises
        ------
        MethodFailedError
            If the client does not answer, or its answer cannot be used.
        """
