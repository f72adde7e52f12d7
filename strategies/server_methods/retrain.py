"""Training from scratch without what was forgotten: exact, and as expensive as the training was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Self

from flwr.app import ConfigRecord

from fed_unlearn.methods.base import Scope
from fed_unlearn.records import StoredArrays
from fed_unlearn.strategies.inner.state import StateScalar, restore_server_state, server_state
from fed_unlearn.strategies.server_methods.base import ServerMethod, ServerWork
from fed_unlearn.strategies.server_methods.registry import register
from fed_unlearn.strategies.state import MethodState

_NO_NEW_DATA = 1e-12
"""A length above 0: in the first round, too, changes are bounded as in later ones of a training."""


@dataclass(frozen=True, kw_only=True)
class RetrainState(MethodState):
    """The rounds that are repeated so far.

    Attributes
    ----------
    inner_arrays : mapping of str to dict of ndarray
        Arrays that the inner strategy carries along, by attribute.
    inner_scalars : mapping of str to scalar
        The rest of what it carries along.
    longest : float
        The longest change of a client so far that is not the longest of its round.
    """

    inner_arrays: Mapping[str, StoredArrays] = field(default_factory=dict)
    inner_scalars: Mapping[str, StateScalar] = field(default_factory=dict)
    longest: float = 0.0


@register("retrain")
@dataclass(frozen=True, kw_only=True)
class Retrain(ServerMethod[RetrainState]):
    """Repeat all experiences from the first model: same rounds, seeds and hyper-parameters, retained data only.

    Clients leave out what they have quarantined or tombstoned by themselves, so the server needs to know no sample. A
    step is one training round of the inner strategy, whose momenta are carried along.
    """

    paper: ClassVar[str] = "the gold standard that others approximate"
    scopes: ClassVar[tuple[Scope, ...]] = ("class", "sample", "client")
    goal: ClassVar[str] = "indistinguishable"
    needs: ClassVar[str] = "retain, the first model"
    is_retraining: ClassVar[bool] = True
    shares_rounds: ClassVar[bool] = True
    state_class: ClassVar[type[MethodState]] = RetrainState

    def cannot_serve(self, work: ServerWork) -> str | None:
        """Without the first model, or any training, there is nothing to repeat."""
        if work.initial is None:
            return "the model was trained elsewhere, so there is no training to repeat"
        if not _configs(work):
            return "no round was trained so far, so there is no training to repeat"
        return super().cannot_serve(work)

    def begin(self, work: ServerWork) -> RetrainState:
        """The model that the first experience started from."""
        return RetrainState(step=0, arrays=self._initial(work), longest=_NO_NEW_DATA)

    def advance(self, work: ServerWork, state: RetrainState) -> RetrainState:
        """The next training round, under the number that it had."""
        inner, configs = work.trainer.inner, _configs(work)
        restore_server_state(inner, state.inner_arrays, state.inner_scalars)
        trained = work.trainer.train(state.arrays, state.step + 1, configs[state.step], longest=state.longest)
        arrays, scalars = server_state(inner)
        done = state.step + 1 == len(configs)
        return state.followed_by(
            trained.arrays, done=done, inner_arrays=arrays, inner_scalars=scalars, longest=trained.longest
        )

    def stronger(self) -> Self:
        """The same: nothing forgets more."""
        return self


def _configs(work: ServerWork) -> list[ConfigRecord]:
    """The configuration of every training round so far."""
    return [config for experience in work.experiences for config in experience.configs]
