"""Readings of small models of handwritten digits that forgot a class in different ways, or only seem to have."""

from __future__ import annotations

import copy
from functools import cache

import torch
from torch import nn
from trained_digits import FORGOTTEN, Digits, fitted, train_digits, untrained_network

from fed_unlearn.audits.battery import central_observation
from fed_unlearn.audits.observation import Observation
from fed_unlearn.audits.readings import Readings, RequestData
from fed_unlearn.methods import create

OTHERS = [label for label in range(10) if label != FORGOTTEN]


@cache
def digits() -> Digits:
    return train_digits()


@cache
def data() -> RequestData:
    parts = digits()
    return RequestData(
        parts={
            "forget": parts.forget,
            "retain": parts.retain,
            "test_forget": parts.test_forget,
            "test_retain": parts.test_retain,
        },
        classes=frozenset({FORGOTTEN}),
        class_count=10,
    )


def overwritten(model: nn.Module) -> nn.Module:
    """The model with the forgotten class's row set to the mean of the others: nothing else is changed."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        model[-1].weight[FORGOTTEN] = model[-1].weight[OTHERS].mean(0)
        model[-1].bias[FORGOTTEN] = model[-1].bias[OTHERS].mean() - 100
    return model


@cache
def model(name: str) -> nn.Module:
    """``original``, ``oracle``, ``second-oracle``, ``overwritten``, or what a method of that name makes of it."""
    if name == "original":
        return digits().model
    if name == "oracle":
        return fitted(untrained_network(), digits().retain, epochs=8)
    if name == "second-oracle":
        order = torch.randperm(len(digits().retain), generator=torch.Generator().manual_seed(5))
        return fitted(untrained_network(), digits().retain.subset(order), epochs=8)
    if name == "overwritten":
        return overwritten(digits().model)
    return create(name).unlearn(digits().model, digits().forget, generator=torch.Generator().manual_seed(0)).model


@cache
def readings(name: str) -> Readings:
    return Readings(model(name), data())


def seen(name: str, seed: int = 0, scope: str = "class") -> Observation:
    """What audits read of a model: the others are its original and its oracles."""
    oracles = tuple(readings(other) for other in ("oracle", "second-oracle") if other != name)
    return central_observation(readings(name), scope, original=readings("original"), oracles=oracles, seed=seed)  # type: ignore[arg-type]
