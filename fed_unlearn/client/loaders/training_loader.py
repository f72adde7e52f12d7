"""An app's training loader over samples that repair chose, some of them under other labels."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from fed_unlearn.client.loaders.batches import BatchKeys
from fed_unlearn.client.loaders.copies import same_loader
from fed_unlearn.data.sample_set import SampleSet


class _LabelledItems(Dataset[tuple[Any, int]]):
    """The app's own items, with the label under which each is to be trained on."""

    def __init__(self, samples: SampleSet) -> None:
        self._labels = samples.labels.tolist()
        self._places = samples.located()

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        dataset, position = self._places[index]
        return dataset[position], self._labels[index]


class _LabelledCollate:
    """The app's own batches, under the labels of the items."""

    def __init__(self, loader: DataLoader[Any], keys: BatchKeys) -> None:
        self._collate, self._keys = loader.collate_fn, keys

    def __call__(self, items: list[tuple[Any, int]]) -> Any:
        batch = self._collate([item for item, _ in items])
        return self._keys.with_labels(batch, torch.tensor([label for _, label in items]))


def training_loader(
    loader: DataLoader[Any], keys: BatchKeys, samples: SampleSet, generator: torch.Generator
) -> DataLoader[Any]:
    """A loader like the app's own over some samples, under their labels.

    Parameters
    ----------
    loader : DataLoader
        The app's own, which gives batch size, collate function, workers and order.
    keys : BatchKeys
    samples : SampleSet
        Samples of the loader's data set, or of its view without augmentation.
    generator : torch.Generator
        Source of the order, on the CPU.
    """
    return same_loader(loader, _LabelledItems(samples), collate=_LabelledCollate(loader, keys), generator=generator)
