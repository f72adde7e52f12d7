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

    def __getitems__(self, indices: list[int]) -> list[tuple[Any, int]]:
        """The items of a batch. A data set that reads several at once does so."""
        items: dict[int, Any] = {}
        for dataset, places in _by_dataset([self._places[index] for index in indices]):
            positions = [position for _, position in places]
            read = getattr(dataset, "__getitems__", None)
            found = read(positions) if read is not None else [dataset[position] for position in positions]
            items.update(zip((place for place, _ in places), found, strict=True))
        return [(items[place], self._labels[index]) for place, index in enumerate(indices)]


def _by_dataset(places: list[tuple[Dataset[Any], int]]) -> list[tuple[Dataset[Any], list[tuple[int, int]]]]:
    """Each data set with its places in a batch and the positions that they have in it."""
    grouped: dict[int, tuple[Dataset[Any], list[tuple[int, int]]]] = {}
    for place, (dataset, position) in enumerate(places):
        grouped.setdefault(id(dataset), (dataset, []))[1].append((place, position))
    return list(grouped.values())


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
