"""Fresh weights for the last blocks, which are trained anew on retained data, above the others as they are."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from flwr.app import ConfigRecord

from fed_unlearn import protocol
from fed_unlearn.methods.base import Scope
from fed_unlearn.methods.parts.validation import BelowOne
from fed_unlearn.seeding import derive_seed
from fed_unlearn.settings import Fraction
from fed_unlearn.strategies.server_methods.base import ServerMethod, ServerWork
from fed_unlearn.strategies.server_methods.closed_form import with_discriminant
from fed_unlearn.strategies.server_methods.fresh_arrays import drawn, last_layers
from fed_unlearn.strategies.server_methods.parameters import (
    BatchSize,
    Epochs,
    Factor,
    FactorFromZero,
    LayersFromZero,
    LearningRate,
    Rounds,
)
from fed_unlearn.strategies.server_methods.parts import averaged, train_staying
from fed_unlearn.strategies.server_methods.registry import register
from fed_unlearn.strategies.server_methods.relearn_rounds import (
    digest_of_arrays,
    norm_of,
    relearn_round,
    told_blocks,
)
from fed_unlearn.strategies.state import MethodState

logger = logging.getLogger("fed_unlearn.strategies")


@dataclass(frozen=True, kw_only=True)
class RelearnState(MethodState):
    """What is reset, and how far its training has come.

    Attributes
    ----------
    reset : tuple of str
        Names of the arrays of the last blocks; empty before clients have said them.
    frozen : tuple of str
        Names of those arrays that the model has frozen, which stay as they were.
    own_training : bool
        Whether clients train by the app's own training.
    fresh_norm : float
        Norm of the last blocks' arrays as they were drawn.
    """

    reset: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    own_training: bool = False
    fresh_norm: float = 0.0

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of the arrays that clients train."""
        return tuple(name for name in self.reset if name not in self.frozen)


@register("reset-and-relearn")
@dataclass(frozen=True, kw_only=True)
class ResetAndRelearn(ServerMethod[RelearnState]):
    """Reset the last blocks, and have all clients train them on retained data, with everything below frozen.

    What a model knows of a class is mostly in its last layers. These are drawn anew by the server, and see retained
    data alone. No forgotten sample is read, so that it serves where holders are away or may not read them. The layers
    below stay as they are, bit for bit, and what they know stays too: a backdoor that a client planted there comes
    back with the first round.

    Clients say which arrays their last blocks have. Each runs what lies below once over its retained samples and keeps
    what this gives until the request ends. Only the last blocks travel afterwards, and the sums of
    ``closed_form``. Clients minimise ``(1 - d) CE + d T^2 KL(f0 without the forgotten classes || f)`` where classes are
    forgotten, ``f0`` being the model before, and cross-entropy else.

    Where clients' models cannot be traced or differ, or a client does not know these messages, and where
    ``own_training`` asks for it, clients train by the app's own training, with the arrays below frozen: of the last
    ``blocks + 1`` layers in the order of the model's arrays. The log says which was used.

    Parameters
    ----------
    blocks : int, default 2
        Number of blocks that are reset beside the head, counted from the output. The first block always stays.
    rounds : int, default 3
        Number of training rounds.
    epochs : int, default 1
        Passes over its retained samples that a client makes in a round.
    distillation : float, default 0.7
        d, the weight of the answers of the model before. It counts where classes are forgotten.
    temperature : float, default 2.0
        T, which divides the logits in the divergence.
    learning_rate : float, default 0.05
        Learning rate of the clients' SGD at the first step of the first round. It falls to zero along a cosine over all
        rounds.
    momentum, weight_decay : float, default 0.9 and 0.0005
        Momentum and weight decay of the clients' SGD.
    batch_size : int, default 16
        Samples of a step.
    max_gradient_norm : float, default 5.0
        Longer gradients are scaled down to this norm. 0 means no bound.
    closed_form : bool, default True
        Whether the first round begins with the linear discriminant of clients' sums of features for an output layer.
    own_training : bool, default False
        Whether clients train by the app's own training, in the configuration of the last training. ``epochs`` and what
        follows it have no effect then.
    """

    paper: ClassVar[str] = "after Goel et al., Towards Adversarial Evaluations (EU-k), 2022"
    scopes: ClassVar[tuple[Scope, ...]] = ("class", "sample", "client")
    goal: ClassVar[str] = "indistinguishable"
    needs: ClassVar[str] = "retain"
    state_class: ClassVar[type[MethodState]] = RelearnState

    blocks: LayersFromZero = 2
    rounds: Rounds = 3
    epochs: Epochs = 1
    distillation: Fraction = 0.7
    temperature: Factor = 2.0
    learning_rate: LearningRate = 0.05
    momentum: BelowOne = 0.9
    weight_decay: FactorFromZero = 5e-4
    batch_size: BatchSize = 16
    max_gradient_norm: FactorFromZero = 5.0
    closed_form: bool = True
    own_training: bool = False

    def begin(self, work: ServerWork) -> RelearnState:
        """The served model, with fresh last layers where no client has to say which these are."""
        state = RelearnState(step=0, arrays=work.served)
        return self._reset_by_order(work, state) if self.own_training else state

    def advance(self, work: ServerWork, state: RelearnState) -> RelearnState:
        """One round of training above the frozen layers; before the first one, clients say which layers these are."""
        if not state.reset:
            state = self._reset(work, state)
        done = state.step + 1 >= self.rounds
        if state.own_training:
            frozen = [name for name in work.served if name not in state.reset]
            models = train_staying(work, state.arrays, state.step, frozen=frozen, config=_training_config(work))
            return state.followed_by(averaged(models), done=done)
        return self._trained(work, state, state.step, done=done)

    def mended(self, work: ServerWork, state: RelearnState) -> RelearnState | None:
        """The last round once more."""
        if state.own_training:
            return None
        return self._trained(work, state, self.rounds - 1, done=True)

    def stronger(self) -> Self:
        """One more block, and twice the rounds."""
        return replace(self, blocks=self.blocks + 1, rounds=2 * self.rounds)

    def _trained(self, work: ServerWork, state: RelearnState, position: int, *, done: bool) -> RelearnState:
        """The state after a round at a position among all; the first one begins with an output layer in closed form."""
        instruction, arrays = self._instruction(work, state, position), state.arrays
        is_first = state.step == 0
        if is_first and self.closed_form:
            arrays = with_discriminant(work, arrays, state.reset, state.trained, instruction)
        base = {name: arrays[name] for name in state.reset}
        carries_served = is_first and not self.closed_form
        models = relearn_round(work, base, state.fresh_norm, instruction, carries_served=carries_served)
        return state.followed_by({**arrays, **averaged(models)}, done=done)

    def _reset(self, work: ServerWork, state: RelearnState) -> RelearnState:
        told = told_blocks(work, self.blocks)
        if told.reason:
            logger.warning(
                "request %s: %s trains by the app's own training: %s", work.request.id, self.name, told.reason
            )
            return self._reset_by_order(work, state)
        logger.info("request %s: %s resets %s", work.request.id, self.name, ", ".join(told.blocks))
        return self._drawn(work, state, told.arrays, told.frozen)

    def _reset_by_order(self, work: ServerWork, state: RelearnState) -> RelearnState:
        names = tuple(last_layers(work.served, self.blocks + 1))
        return replace(self._drawn(work, state, names, ()), own_training=True)

    def _drawn(
        self, work: ServerWork, state: RelearnState, names: tuple[str, ...], frozen: tuple[str, ...]
    ) -> RelearnState:
        ordered = [name for name in work.served if name in set(names)]
        fresh = drawn({name: work.served[name] for name in ordered}, (work.seed, work.request.id, work.attempt))
        fresh |= {name: work.served[name] for name in frozen}
        return replace(
            state, arrays={**work.served, **fresh}, reset=tuple(ordered), frozen=frozen, fresh_norm=norm_of(fresh)
        )

    def _instruction(self, work: ServerWork, state: RelearnState, position: int) -> protocol.RelearnInstruction:
        is_class = work.request.scope.kind == "class"
        return protocol.RelearnInstruction(
            blocks=self.blocks,
            base=digest_of_arrays(work.served),
            forgotten=work.excluded_classes,
            epochs=self.epochs,
            round=state.step,
            position=position,
            positions=self.rounds,
            distillation=self.distillation if is_class else 0.0,
            temperature=self.temperature,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            max_gradient_norm=self.max_gradient_norm,
            seed=derive_seed(work.seed, self.name, work.request.id, work.attempt),
            arrived=work.arrived,
        )


def _training_config(work: ServerWork) -> ConfigRecord:
    """That of the last training round; of repair where nothing was trained here."""
    configs = [config for experience in work.experiences for config in experience.configs]
    return configs[-1] if configs else work.train_config
