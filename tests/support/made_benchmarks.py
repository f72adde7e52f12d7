"""Benchmarks as users write them, for scenarios whose ``[stream]`` names one of these callables."""

from __future__ import annotations

from typing import Any

import torch
from avalanche.benchmarks import benchmark_from_datasets, nc_benchmark
from avalanche.benchmarks.scenarios import CLScenario
from avalanche.benchmarks.utils import AvalancheDataset, DataAttribute
from avalanche.benchmarks.utils.classification_dataset import ClassificationDataset

NOT_CALLABLE = 3


def new_classes(train: AvalancheDataset, test: AvalancheDataset, *, experiences: int = 2) -> CLScenario:
    """Class-incremental by Avalanche's classic generator, which draws from torch's global generator."""
    return nc_benchmark(train, test, n_experiences=experiences, task_labels=False)


def halves(train: AvalancheDataset, test: AvalancheDataset, *, left_out: int = 0) -> CLScenario:
    """Every second sample first, the others backwards then; some are in no experience."""
    kept = range(len(train) - left_out)
    return benchmark_from_datasets(train=[train.subset(kept[::2]), train.subset(kept[1::2][::-1])], test=[test])


def twice(train: AvalancheDataset, test: AvalancheDataset) -> CLScenario:
    """The first samples come again."""
    return benchmark_from_datasets(train=[train.subset(range(20)), train.subset(range(19, 40))], test=[test])


def of_test_samples(train: AvalancheDataset, test: AvalancheDataset) -> CLScenario:
    """Trains on what no client has."""
    return benchmark_from_datasets(train=[train, test], test=[test])


def without_ids(train: AvalancheDataset, test: AvalancheDataset) -> CLScenario:
    """Samples that nobody can name."""
    targets = DataAttribute([0, 1], "targets")
    nameless = ClassificationDataset([[(torch.zeros(1, 8, 8), label) for label in (0, 1)]], data_attributes=[targets])
    return benchmark_from_datasets(train=[nameless], test=[test])


def no_benchmark(train: AvalancheDataset, test: AvalancheDataset) -> Any:
    """Two data sets."""
    return train, test


def failing(train: AvalancheDataset, test: AvalancheDataset, *, weight: float = 1.0) -> CLScenario:
    """Cannot be made."""
    raise RuntimeError(f"no benchmark of weight {weight}")
