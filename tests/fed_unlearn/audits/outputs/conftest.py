"""Models on digits that have forgotten class 3 rightly, wrongly, or not at all; all read in one place."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import nn
from trained_digits import FORGOTTEN, Digits, fitted, train_digits, untrained_network

from fed_unlearn import methods
from fed_unlearn.audits.battery import central_observation
from fed_unlearn.audits.observation import Observation
from fed_unlearn.audits.readings import Readings, RequestData
from fed_unlearn.seeding import seeded_generator


@pytest.fixture(scope="session")
def digits() -> Digits:
    return train_digits()


@pytest.fixture(scope="session")
def data(digits: Digits) -> RequestData:
    parts = {
        "forget": digits.forget,
        "retain": digits.retain.subset(torch.arange(0, len(digits.retain), 2)),
        "test_forget": digits.test_forget,
        "test_retain": digits.test_retain,
    }
    return RequestData(parts=parts, classes=frozenset({FORGOTTEN}), class_count=10)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def models(digits: Digits) -> Mapping[str, nn.Module]:
    """By what became of the class."""
    retain = digits.retain
    return {
        "original": digits.trained,
        "masked": unlearned(digits, "mask-output"),
        "row overwritten": row_overwritten(digits.model),
        "over-forgotten": over_forgotten(digits),
        "oracle": fitted(untrained_network(), retain, epochs=8),
        "other oracle": fitted(untrained_network(), retain.subset(torch.arange(len(retain)).flip(0)), epochs=8),
    }


@pytest.fixture(scope="session")
def seen(models: Mapping[str, nn.Module], data: RequestData) -> Callable[..., Observation]:
    """What audits read of a model, perhaps beside oracles."""
    readings = {name: Readings(model, data) for name, model in models.items()}

    def observation(name: str, *oracles: str, seed: int = 0) -> Observation:
        others = tuple(readings[oracle] for oracle in oracles)
        return central_observation(readings[name], "class", oracles=others, seed=seed)

    return observation


def unlearned(digits: Digits, method: str) -> nn.Module:
    return (
        methods.create(method)
        .unlearn(
            digits.model,
            digits.forget,
            None,
            excluded_classes=[FORGOTTEN],
            generator=seeded_generator("outputs", method),
        )
        .model
    )


def row_overwritten(model: nn.Module) -> nn.Module:
    """The class's output row is the mean of the others, and its bias is below all of theirs; every feature stays."""
    layer = model[-1]
    others = torch.arange(10) != FORGOTTEN
    with torch.no_grad():
        layer.weight[FORGOTTEN] = layer.weight[others].mean(0)
        layer.bias[FORGOTTEN] = layer.bias.min() - 10
    return model


def over_forgotten(digits: Digits) -> nn.Module:
    """Trained to call the class's samples zeros, until it is surer of it than of anything else."""
    model = copy.deepcopy(digits.trained)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    generator = torch.Generator().manual_seed(1)
    model.train()
    images = torch.cat([digits.retain.images, *[digits.forget.images] * 3])
    labels = torch.cat([digits.retain.labels, torch.zeros(3 * len(digits.forget), dtype=torch.int64)])
    for _ in range(6):
        for chosen in torch.randperm(len(labels), generator=generator).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimizer.step()
    return model.eval()
