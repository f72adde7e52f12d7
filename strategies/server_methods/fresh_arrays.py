"""The arrays of a model's last layers by their order, and fresh values for them, drawn without the model itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod, sqrt

import numpy as np

from fed_unlearn.arrays import COUNTER, MEAN, VARIANCE, Arrays
from fed_unlearn.seeding import derive_seed
from fed_unlearn.strategies.server_methods.base import MethodFailedError

_WEIGHT = re.compile(r"(.*_)?weight|weight_[ih]h_.*")
"""Names that torch's linear, convolutional, attention and recurrent layers give to the weights that they draw."""


def last_layers(arrays: Arrays, layers: int) -> list[str]:
    """Names of the arrays of the last layers: their weights, and all that stands behind the first of these.

    The first layer of the model is never among them.

    Parameters
    ----------
    arrays : dict of ndarray
        Arrays of the model, in the model's order.
    layers : int
        Number of arrays of weights among them, with two or more dimensions; fewer where the model has no more.

    Raises
    ------
    MethodFailedError
        If the model has one such array alone.
    """
    names = list(arrays)
    weights = [name for name in names if _is_weights(arrays, name)]
    if len(weights) < 2:
        raise MethodFailedError(
            f"the model has {len(weights)} array of weights; expected two at least, of which the first stays: use"
            " 'retrain'"
        )
    return names[names.index(weights[-min(layers, len(weights) - 1)]) :]


def drawn(arrays: Arrays, seed: Sequence[str | int]) -> Arrays:
    """Fresh values for some arrays, as torch's own layers draw them.

    Weights and the biases behind them are uniform within 1 / sqrt(inputs of an output), which is the default of
    ``nn.Linear`` and ``nn.Conv2d``. Normalisation begins with weights 1, biases 0, means 0 and variances 1, counters
    with 0. What the names do not tell, such as a scale of a layer's outputs or a token of the input, is drawn from the
    normal distribution of its mean and standard deviation: one that is constant stays. So do arrays of integers.

    Parameters
    ----------
    arrays : dict of ndarray
        Arrays of the model, in the model's order.
    seed : sequence of str or int
        Parts of the seed.
    """
    generator = np.random.default_rng(derive_seed(*seed, "reset"))
    fresh: Arrays = {}
    bound = 0.0
    for name, value in arrays.items():
        stem, _, ending = name.rpartition(".")
        if ending in (MEAN, VARIANCE, COUNTER):
            new = np.full(value.shape, float(ending == VARIANCE))
        elif not np.issubdtype(value.dtype, np.floating):
            new = value.copy()
        elif _is_weights(arrays, name) and _WEIGHT.fullmatch(ending):
            bound = 1 / sqrt(prod(value.shape[1:]))
            new = generator.uniform(-bound, bound, value.shape)
        elif ending == "weight" and f"{stem}.bias".lstrip(".") in arrays:
            new, bound = np.ones(value.shape), 0.0
        elif "bias" in ending:
            new = generator.uniform(-bound, bound, value.shape) if bound else np.zeros(value.shape)
        else:
            held = value.astype(np.float64)
            new = held.mean() + held.std() * generator.standard_normal(value.shape)
        fresh[name] = new.astype(value.dtype)
    return fresh


def _is_weights(arrays: Arrays, name: str) -> bool:
    return arrays[name].ndim >= 2 and np.issubdtype(arrays[name].dtype, np.floating)
