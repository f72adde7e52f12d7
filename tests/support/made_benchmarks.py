"""Benchmarks as users write them, for scenarios whose ``[stream]`` names one of these callables."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks import benchmark_from_datasets, nc_benchmark
from avalanche.benchmarks.scenarios import CLScenario
from avalanche.benchmarks.utils import AvalancheDataset, DataAttribute
from avalanche.benchmarks.utils.classification_dataset import ClassificationDataset
from avalanche.benchmarks.utils.transform_groups import TransformGroups

from fed_unlearn.avalanche.streams.samples import as_avalanche_dataset, sample_ids
from fed_unlearn.data.images import ImageSet

NOT_CALLABLE = 3
calls: list[str] = []
"""Names of those that say here when they are called."""


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


def renaming(train: AvalancheDataset, test: AvalancheDataset) -> CLScenario:
    """Classes are numbered in the order in which they arrive."""
    order = [5, 6, 7, 8, 9, 0, 1, 2, 3, 4]
    return nc_benchmark(
        train,
        test,
        n_experiences=2,
        task_labels=False,
        fixed_class_order=order,
        class_ids_from_zero_from_first_exp=True,
    )


def renaming_tests(train: AvalancheDataset, test: AvalancheDataset) -> CLScenario:
    """Only the test stream has other numbers."""
    return CLScenario([halves(train, test).train_stream, renaming(train, test).test_stream])


def darkened(train: AvalancheDataset, test: AvalancheDataset, *, only: str = "both") -> CLScenario:
    """Images are changed when they are read."""
    changed = {
        name: _read_with(dataset, _darken, _darken) if only in (name, "both") else dataset
        for name, dataset in (("train", train), ("test", test))
    }
    return halves(changed["train"], changed["test"])


def normalised(train: AvalancheDataset, test: AvalancheDataset) -> CLScenario:
    """Images leave the range of pixels."""
    return halves(_read_with(train, _normalise, _normalise), test)


def augmented(train: AvalancheDataset, test: AvalancheDataset) -> CLScenario:
    """Images are changed for training alone, which is the clients' own affair."""
    return halves(_read_with(train, _darken, None), test)


def of_other_images(train: AvalancheDataset, test: AvalancheDataset) -> CLScenario:
    """Other images under the ids of the given ones."""
    images = train._flat_data._datasets[0]
    pixels, labels = images.batch()
    return halves(as_avalanche_dataset(ImageSet(1 - pixels, labels, images.ids).only(sample_ids(train))), test)


def without_tests(train: AvalancheDataset, test: AvalancheDataset) -> CLScenario:
    """Nothing to evaluate models on."""
    return benchmark_from_datasets(train=[train])


def shuffled(train: AvalancheDataset, test: AvalancheDataset) -> CLScenario:
    """Draws from all global generators."""
    calls.append("shuffled")
    order = np.random.permutation(len(train)).tolist()
    random.shuffle(order)
    order = [order[index] for index in torch.randperm(len(order)).tolist()]
    half = len(order) // 2
    return benchmark_from_datasets(train=[train.subset(order[:half]), train.subset(order[half:])], test=[test])


def drawn_anew(train: AvalancheDataset, test: AvalancheDataset) -> CLScenario:
    """Another one at every call."""
    order = np.random.default_rng().permutation(len(train)).tolist()
    half = len(order) // 2
    return benchmark_from_datasets(train=[train.subset(order[:half]), train.subset(order[half:])], test=[test])


def _read_with(dataset: AvalancheDataset, in_training: Any, in_evaluation: Any) -> AvalancheDataset:
    groups = TransformGroups({"train": (in_training, None), "eval": (in_evaluation, None)})
    return ClassificationDataset([dataset], transform_groups=groups)


def _darken(image: torch.Tensor) -> torch.Tensor:
    return image / 2


def _normalise(image: torch.Tensor) -> torch.Tensor:
    return image * 2 - 1
