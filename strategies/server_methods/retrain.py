"""Training from scratch without what was forgotten: exact, and as expensive as the training was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from flwr.app import ConfigRecord

from fed_unlearn.methods.base import Scope
from fed_unlearn.strategies.inner.state import restore_server_state, server_state
from fed_unlearn.strategies.server_methods.base import MethodState, ServerMethod, ServerWork
from fed_unlearn.strategies.server_methods.registry import register


@register("retrain")
@dataclass(frozen=True, kw_only=True)
class Retrain(ServerMethod):
    """Repeat all experiences from the first model: same rounds, seeds and hyper-parameters, retained data only.

    Clients leave out what they have quarantined or tombstoned by themselves, so the server needs to know no sample. A
    step is one training round of the inner strategy, whose momenta are carried along.
    """

    paper: ClassVar[str] = "the gold standard that others approximate"
    scopes: ClassVar[tuple[Scope, ...]] = ("class", "sample", "client")
    needs: ClassVar[str] = "retain, the first model"
    is_retraining: ClassVar[bool] = True

    def cannot_serve(self, work: ServerWork) -> str | None:
        """Without the first model, or any training, there is nothing to repeat."""
        if work.initial is None:
            return "the model was trained elsewhere, so there is no training to repeat"
        if not _configs(work):
            return "no round was trained so far, so there is no training to repeat"
        return super().cannot_serve(work)

    def begin(self, work: ServerWork) -> MethodState:
        """The model that the first experience started from."""
        return MethodState(step=0, arrays=self._initial(work))

    def advance(self, work: ServerWork, state: MethodState) -> MethodState:
        """The next training round, under the number that it had."""
        inner, configs, number = work.trainer.inner, _configs(work), state.step + 1
        scalars = {name: value for name, value in state.facts.items() if not isinstance(value, list)}
        restore_server_state(inner, state.memory, scalars)
        trained = work.trainer.train(state.arrays, number, configs[state.step])
        arrays, carried = server_state(inner)
        return MethodState(
            step=number,
            arrays=trained.arrays,
            memory=arrays,
            facts=carried,
            done=number == len(configs),
        )

    def stronger(self) -> Self:
        """The same: nothing forgets more."""
        return self


def _configs(work: ServerWork) -> list[ConfigRecord]:
    """The configuration of every training round so far."""
    return [experience.train_config for experience in work.experiences for _ in range(experience.rounds)]
