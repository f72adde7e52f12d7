"""Places in which strategies of the user's own keep a model, with its accuracy beside it."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from flwr.app import ArrayRecord, MetricRecord
from flwr.serverapp.strategy import FedAvg, Result
from torch import nn

from fed_unlearn.arrays import Arrays, pack, unpack
from fed_unlearn.strategies.inner.kept_models import note_given_models
from fed_unlearn.strategies.inner.kinds import check_supported
from fed_unlearn.strategies.inner.known_models import known_models


class SmallModule(nn.Module):
    """A module whose state has the arrays of ``drawn_model``: a matrix, a vector, a number and a counter."""

    def __init__(self, arrays: Arrays) -> None:
        super().__init__()
        for name in ("weight", "bias", "scale"):
            self.register_parameter(name, nn.Parameter(torch.zeros(arrays[name].shape)))
        self.register_buffer("batches", torch.tensor(0))
        self.load_state_dict(state_dict(arrays))


class Best(NamedTuple):
    accuracy: float
    model: Any


@dataclass
class Scored:
    accuracy: float
    model: Any


@dataclass(frozen=True)
class FrozenScore:
    accuracy: float
    model: Any

    def __post_init__(self) -> None:
        if not isinstance(self.accuracy, float):
            raise TypeError("made anew by hand")


@dataclass(frozen=True, slots=True)
class SlimScore:
    accuracy: float
    model: Any


class Box:
    """An object of the user's own."""

    def __init__(self, accuracy: float, model: Any) -> None:
        self.accuracy, self.model = accuracy, model


class ReadOnlyBox(Box):
    """One that nothing can be set on after it was made."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in vars(self):
            raise AttributeError(name)
        super().__setattr__(name, value)


class Broken(Mapping[str, object]):
    """What cannot be looked through."""

    def __getitem__(self, name: str) -> object:
        raise RuntimeError("closed")

    def __iter__(self) -> Any:
        raise RuntimeError("closed")

    def __len__(self) -> int:
        raise RuntimeError("closed")


def state_dict(arrays: Arrays) -> dict[str, torch.Tensor]:
    return OrderedDict((name, torch.from_numpy(np.array(value))) for name, value in arrays.items())


FORMS: dict[str, tuple[Callable[[Arrays], Any], Callable[[Any], Arrays]]] = {
    "state dict": (state_dict, lambda kept: {name: value.numpy() for name, value in kept.items()}),
    "parameters": (
        lambda arrays: {
            name: nn.Parameter(value) if value.is_floating_point() else value
            for name, value in state_dict(arrays).items()
        },
        lambda kept: {name: value.detach().numpy() for name, value in kept.items()},
    ),
    "record": (pack, unpack),
    "Flower's arrays": (lambda arrays: dict(pack(arrays)), lambda kept: unpack(ArrayRecord(kept))),
    "arrays by name": (lambda arrays: {name: value.copy() for name, value in arrays.items()}, dict),
    "list of arrays": (
        lambda arrays: pack(arrays).to_numpy_ndarrays(),
        lambda kept: dict(zip(("weight", "bias", "scale", "batches"), kept, strict=True)),
    ),
    "module": (SmallModule, lambda kept: {name: value.numpy() for name, value in kept.state_dict().items()}),
}
"""By name: a model in some form, and its arrays."""


def _result(accuracy: float, model: Any) -> Result:
    result = Result()
    result.arrays = model
    result.evaluate_metrics_serverapp[1] = MetricRecord({"accuracy": accuracy})
    return result


def _rounds(accuracy: float, model: Any) -> defaultdict[int, list[Any]]:
    rounds: defaultdict[int, list[Any]] = defaultdict(list)
    rounds[3] = [accuracy, model]
    return rounds


PLACES: dict[str, tuple[Callable[[float, Any], Any], Callable[[Any], tuple[Any, Any]]]] = {
    "tuple": (lambda accuracy, model: (accuracy, model), lambda kept: kept),
    "list of tuples": (lambda accuracy, model: [(accuracy, model)], lambda kept: kept[0]),
    "NamedTuple": (Best, lambda kept: (kept.accuracy, kept.model)),
    "deque": (lambda accuracy, model: deque([accuracy, model], maxlen=2), tuple),
    "dict": (lambda accuracy, model: {1: {"is": accuracy, "of": model}}, lambda kept: tuple(kept[1].values())),
    "defaultdict": (_rounds, lambda kept: tuple(kept[3])),
    "read-only mapping": (
        lambda accuracy, model: MappingProxyType({"is": accuracy, "of": model}),
        lambda kept: (kept["is"], kept["of"]),
    ),
    "dataclass": (Scored, lambda kept: (kept.accuracy, kept.model)),
    "frozen dataclass": (FrozenScore, lambda kept: (kept.accuracy, kept.model)),
    "frozen dataclass with slots": (SlimScore, lambda kept: (kept.accuracy, kept.model)),
    "Result": (_result, lambda kept: (kept.evaluate_metrics_serverapp[1]["accuracy"], kept.arrays)),
    "object": (Box, lambda kept: (kept.accuracy, kept.model)),
    "object that refuses": (ReadOnlyBox, lambda kept: (kept.accuracy, kept.model)),
    "namespace": (
        lambda accuracy, model: SimpleNamespace(accuracy=accuracy, model=model),
        lambda kept: (kept.accuracy, kept.model),
    ),
    "object in a list in a dataclass": (
        lambda accuracy, model: FrozenScore(0.0, [Box(accuracy, model)]),
        lambda kept: (kept.model[0].accuracy, kept.model[0].model),
    ),
}
"""By name: something that holds an accuracy and a model, and both of it again."""


class Keeper(FedAvg):
    """A strategy of the user's own, without a ``start()``."""

    best: Any


def keeper(*seen: Arrays, inner: Any = None, **attributes: Any) -> Any:
    """A strategy that was wrapped, and in whose training models have been; attributes are set after that."""
    inner = inner or Keeper(fraction_evaluate=0.0)
    check_supported(inner)
    known_models(inner).note_served(seen[0])
    note_given_models(inner)
    for arrays in seen:
        known_models(inner).note(arrays)
    for name, value in attributes.items():
        setattr(inner, name, value)
    return inner
