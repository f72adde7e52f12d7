"""Solves the output layer anew over retained samples: retraining in one round, of which most clients read nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from flwr.serverapp.strategy import Strategy

from fed_unlearn.methods.base import Scope
from fed_unlearn.strategies.inner.frozen_head import FrozenHead as FrozenHeadStrategy
from fed_unlearn.strategies.server_methods.base import MethodFailedError, ServerMethod, ServerWork
from fed_unlearn.strategies.server_methods.registry import register
from fed_unlearn.strategies.state import MethodState


@register("frozen-head")
@dataclass(frozen=True, kw_only=True)
class FrozenHead(ServerMethod[MethodState]):
    """Ask every client that stays for the sums over its retained samples, and solve the output layer from them.

    The model was trained by :class:`~fed_unlearn.strategies.inner.frozen_head.FrozenHead`. What retraining from scratch
    gives is then one such round, whatever was trained and forgotten before. Clients keep what the frozen backbone gives
    for their samples, and read none of them again.

    Attributes
    ----------
    goal : str
        What single samples become: like any that the model has not seen.
    """

    paper: ClassVar[str] = "Hoerl and Kennard, Ridge Regression, Technometrics 1970; exact deletion by sums"
    scopes: ClassVar[tuple[Scope, ...]] = ("class", "sample", "client")
    needs: ClassVar[str] = "retain, the strategy FrozenHead"
    is_retraining: ClassVar[bool] = True
    shares_rounds: ClassVar[bool] = True

    goal: ClassVar[str] = "indistinguishable"

    @classmethod
    def unsuited_to(cls, strategy: type[Strategy]) -> str | None:
        """Another strategy has trained more than the output layer."""
        if issubclass(strategy, FrozenHeadStrategy):
            return None
        return (
            f"it needs the strategy FrozenHead, which trains the output layer alone, and {strategy.__name__} trains"
            " here; expected another method, or that strategy"
        )

    def cannot_serve(self, work: ServerWork) -> str | None:
        """Where another strategy trains, and before any training."""
        if problem := self.unsuited_to(type(work.trainer.inner)):
            return problem
        if not any(experience.configs for experience in work.experiences):
            return "no round was trained so far, so there is no output layer to solve anew"
        return super().cannot_serve(work)

    def begin(self, work: ServerWork) -> MethodState:
        """The model that serves, whose output layer is replaced."""
        return MethodState(step=0, arrays=work.served)

    def advance(self, work: ServerWork, state: MethodState) -> MethodState:
        """The last training round again, over what is retained now.

        Raises
        ------
        MethodFailedError
            If no client that stays sent sums.
        """
        configs = [config for experience in work.experiences for config in experience.configs]
        trained = work.trainer.train(state.arrays, len(configs), configs[-1])
        if not trained.trained:
            raise MethodFailedError("no client that stays sent sums over its samples; their logs say why")
        return state.followed_by(trained.arrays, done=True)

    def stronger(self) -> Self:
        """The same: nothing forgets more."""
        return self
