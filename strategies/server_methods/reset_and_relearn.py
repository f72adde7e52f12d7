"""Fresh weights for the last layers, which are trained anew on retained data, above the others as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod, sqrt
from typing import ClassVar, Self

import numpy as np
from flwr.app import ConfigRecord

from fed_unlearn.arrays import MEAN, VARIANCE, Arrays
from fed_unlearn.methods.base import Scope
from fed_unlearn.methods.parts.validation import require
from fed_unlearn.seeding import derive_seed
from fed_unlearn.strategies.server_methods.base import MethodFailedError, ServerMethod, ServerWork
from fed_unlearn.strategies.server_methods.parts import averaged, train_staying
from fed_unlearn.strategies.server_methods.registry import register
from fed_unlearn.strategies.state import MethodState


@register("reset-and-relearn")
@dataclass(frozen=True, kw_only=True)
class ResetAndRelearn(ServerMethod[MethodState]):
    """Reset the last layers, and have all clients train them on retained data, with everything below frozen.

    What a model knows of a class is mostly in its last layers. These are drawn anew by the server, and see retained
    data alone. No forgotten sample is read, so that it serves where holders are away or may not read them. The layers
    below stay as they are, bit for bit, and what they know stays too: a backdoor that a client planted there comes
    back with the first round.

    Parameters
    ----------
    layers : int, default 2
        Number of layers that are reset, counted from the output in the order of the model's arrays; biases and
        normalisation behind them too. At least 1, and fewer than the model has.
    rounds : int, default 5
        Training rounds, at least 1, in the configuration of the last training.
    """

    paper: ClassVar[str] = "after Goel et al., Towards Adversarial Evaluations (EU-k), 2022"
    scopes: ClassVar[tuple[Scope, ...]] = ("class", "sample", "client")
    needs: ClassVar[str] = "retain"

    layers: int = 2
    rounds: int = 5

    def __post_init__(self) -> None:
        require("layers", self.name, self.layers, int, minimum=1)
        require("rounds", self.name, self.rounds, int, minimum=1)

    def begin(self, work: ServerWork) -> MethodState:
        """The served model with fresh last layers."""
        names = last_layers(work.served, self.layers)
        fresh = drawn({name: work.served[name] for name in names}, (work.seed, work.request.id, work.attempt))
        return MethodState(step=0, arrays={**work.served, **fresh})

    def advance(self, work: ServerWork, state: MethodState) -> MethodState:
        """One round of training above the frozen layers."""
        trained = set(last_layers(work.served, self.layers))
        frozen = [name for name in work.served if name not in trained]
        models = train_staying(work, state.arrays, state.step, frozen=frozen, config=_training_config(work))
        return state.followed_by(averaged(models), done=state.step + 1 >= self.rounds)

    def stronger(self) -> Self:
        """One more layer, and twice the rounds."""
        return replace(self, layers=self.layers + 1, rounds=2 * self.rounds)


def last_layers(arrays: Arrays, layers: int) -> list[str]:
    """Names of the arrays of the last layers: their weights, and all that stands behind the first of these.

    Parameters
    ----------
    arrays : dict of ndarray
        In the order in which the model has them.
    layers : int
        Number of arrays of weights among them, with two or more dimensions.

    Raises
    ------
    MethodFailedError
        If the model has not more.
    """
    names = list(arrays)
    weights = [name for name in names if _is_weights(arrays, name)]
    if len(weights) <= layers:
        raise MethodFailedError(
            f"layers = {layers}, and the model has {len(weights)} arrays of weights; give fewer, or use 'retrain'"
        )
    return names[names.index(weights[-layers]) :]


def drawn(arrays: Arrays, seed: Sequence[str | int]) -> Arrays:
    """Fresh values for some arrays, as torch's own layers draw them.

    Weights and the biases behind them are uniform within 1 / sqrt(inputs of an output), which is the default of
    ``nn.Linear`` and ``nn.Conv2d``. Normalisation begins with weights 1, biases 0, means 0 and variances 1, counters
    with 0.

    Parameters
    ----------
    arrays : dict of ndarray
        In the order in which the model has them.
    seed : sequence of str or int
        Parts of the seed.
    """
    generator = np.random.default_rng(derive_seed(*seed, "reset"))
    fresh: Arrays = {}
    bound = 0.0
    for name, value in arrays.items():
        ending = name.rpartition(".")[2]
        if _is_weights(arrays, name):
            bound = 1 / sqrt(prod(value.shape[1:]))
            new = generator.uniform(-bound, bound, value.shape)
        elif ending in (MEAN, VARIANCE) or not np.issubdtype(value.dtype, np.floating):
            new = np.full(value.shape, float(ending == VARIANCE))
        elif ending == "weight":
            new, bound = np.ones(value.shape), 0.0
        else:
            new = generator.uniform(-bound, bound, value.shape) if bound else np.zeros(value.shape)
        fresh[name] = new.astype(value.dtype)
    return fresh


def _is_weights(arrays: Arrays, name: str) -> bool:
    return arrays[name].ndim >= 2 and np.issubdtype(arrays[name].dtype, np.floating)


def _training_config(work: ServerWork) -> ConfigRecord:
    """That of the last training round; of repair where nothing was trained here."""
    configs = [config for experience in work.experiences for config in experience.configs]
    return configs[-1] if configs else work.train_config
