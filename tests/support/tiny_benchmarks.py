"""Every kind of Avalanche benchmark over 60 tiny images, each of which shows its own number."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from avalanche.benchmarks import (
    benchmark_from_datasets,
    benchmark_with_validation_stream,
    class_incremental_benchmark,
    nc_benchmark,
    new_instances_benchmark,
    ni_benchmark,
)
from avalanche.benchmarks.utils import AvalancheDataset, DataAttribute
from avalanche.benchmarks.utils.classification_dataset import ClassificationDataset
from torch import Tensor
from torch.utils.data import Dataset

CLASSES = 6
TRAIN, TEST = 60, 24


class Numbered(Dataset[tuple[Tensor, int]]):
    """Image ``i`` is grey ``i / 255``, its label ``i % 6``: a sample can be told from what it shows."""

    def __init__(self, count: int) -> None:
        self.targets = [index % CLASSES for index in range(count)]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.full((1, 4, 4), index / 255), self.targets[index]


def numbered(count: int = TRAIN) -> AvalancheDataset:
    """Without sample ids."""
    base = Numbered(count)
    return ClassificationDataset([base], data_attributes=[DataAttribute(base.targets, "targets")])


def shown(dataset: AvalancheDataset) -> list[int]:
    """The numbers that the images of a data set show, read one by one."""
    return [round(float(dataset[index][0].mean()) * 255) for index in range(len(dataset))]


def _lists(parts: int, count: int) -> list[AvalancheDataset]:
    dataset = numbered(count)
    return [dataset.subset(list(range(part, count, parts))) for part in range(parts)]


def _with_validation() -> Any:
    given = nc_benchmark(numbered(), numbered(TEST), 3, False, fixed_class_order=[4, 2, 0, 1, 3, 5])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Avalanche tells that it turns its own generator into a list
        return benchmark_with_validation_stream(given, 0.2, shuffle=True, seed=3)


KINDS: dict[str, Callable[[], Any]] = {
    "nc": lambda: nc_benchmark(numbered(), numbered(TEST), 3, False, fixed_class_order=[4, 2, 0, 1, 3, 5]),
    "nc-tasks": lambda: nc_benchmark(numbered(), numbered(TEST), 3, True, fixed_class_order=[4, 2, 0, 1, 3, 5]),
    "ni": lambda: ni_benchmark(numbered(), numbered(TEST), 3, seed=1),
    "class-incremental": lambda: class_incremental_benchmark(
        {"train": numbered(), "test": numbered(TEST)}, num_experiences=3, class_order=[4, 2, 0, 1, 3, 5]
    ),
    "new-instances": lambda: new_instances_benchmark(numbered(), numbered(TEST), 3, seed=1),
    "datasets": lambda: benchmark_from_datasets(train=_lists(3, TRAIN), test=_lists(2, TEST)),
    "validation": _with_validation,
}


def made(kind: str) -> Any:
    """A benchmark of three training experiences of one kind; global generators are as before."""
    with torch.random.fork_rng(devices=[]):  # Avalanche seeds the global one
        return KINDS[kind]()
