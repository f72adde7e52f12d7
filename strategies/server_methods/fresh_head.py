"""A fresh output layer, and many short rounds in which those that stay train the whole model on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from flwr.app import ConfigRecord

from fed_unlearn.methods.base import Scope
from fed_unlearn.methods.parts.validation import PositiveShare
from fed_unlearn.strategies.server_methods.base import ServerMethod, ServerWork
from fed_unlearn.strategies.server_methods.fresh_arrays import drawn, last_layers
from fed_unlearn.strategies.server_methods.parameters import BatchSize, Factor, Layers, LearningRate, Rounds
from fed_unlearn.strategies.server_methods.parts import averaged, train_staying
from fed_unlearn.strategies.server_methods.registry import register
from fed_unlearn.strategies.state import MethodState


@register("fresh-head")
@dataclass(frozen=True, kw_only=True)
class FreshHead(ServerMethod[MethodState]):
    """Draw the output layer anew, and have those that stay train all layers in short rounds of small batches.

    What a backdoor answers with is in the output layer. A fresh one has large gradients, which also change what the
    layers below make of the trigger; the others' images bring back the rest. Many short rounds at a falling learning
    rate cost no more sample passes than few long ones, and small batches make more steps of them. The leaving client
    takes no step: it may be gone. One pass serves all clients that leave.

    Parameters
    ----------
    layers : int, default 1
        Number of layers that are drawn anew, counted from the output in the order of the model's arrays: 1 for the
        output layer alone.
    scale : float, default 0.1
        Factor of the fresh weights and biases, above 0. Small ones say little of any class at first.
    rounds : int, default 14
        Number of training rounds of the clients that stay, at least 1. Their configuration is that of repair, but for
        the keys "fraction", "batch-size", "learning-rate" and "local-epochs", which is 1. An app of your own has to
        read these keys.
    fraction : float, default 0.16
        Share of a client's samples that it trains on in a round, in (0, 1].
    batch_size : int, default 8
    learning_rate, final_learning_rate : float, default 0.05 and 0.005
        Learning rates of the first and of the last round; in between the rate falls linearly.
    """

    paper: ClassVar[str] = "after Goel et al., Towards Adversarial Evaluations (EU-k, CF-k), 2022"
    scopes: ClassVar[tuple[Scope, ...]] = ("client",)
    needs: ClassVar[str] = "retain"
    shares_rounds: ClassVar[bool] = True

    layers: Layers = 1
    scale: Factor = 0.1
    rounds: Rounds = 14
    fraction: PositiveShare = 0.16
    batch_size: BatchSize = 8
    learning_rate: LearningRate = 0.05
    final_learning_rate: LearningRate = 0.005

    def begin(self, work: ServerWork) -> MethodState:
        """The served model with a fresh output layer."""
        names = last_layers(work.served, self.layers)
        fresh = drawn({name: work.served[name] for name in names}, (work.seed, work.request.id, work.attempt))
        scaled = [name for name, value in fresh.items() if value.ndim >= 2 or name.endswith("bias")]
        small = {name: (self.scale * fresh[name]).astype(fresh[name].dtype) for name in scaled}
        return MethodState(step=0, arrays={**work.served, **fresh, **small})

    def advance(self, work: ServerWork, state: MethodState) -> MethodState:
        """One short round."""
        models = train_staying(work, state.arrays, state.step, config=self._config(work, state.step))
        return state.followed_by(averaged(models), done=state.step + 1 >= self.rounds)

    def stronger(self) -> Self:
        """Twice the rounds."""
        return replace(self, rounds=2 * self.rounds)

    def _config(self, work: ServerWork, step: int) -> ConfigRecord:
        """The configuration of one round, counted from 0."""
        passed = step / (self.rounds - 1) if self.rounds > 1 else 0.0
        return ConfigRecord(
            {
                **work.train_config,
                "local-epochs": 1,
                "fraction": self.fraction,
                "batch-size": self.batch_size,
                "learning-rate": self.learning_rate + passed * (self.final_learning_rate - self.learning_rate),
            }
        )
