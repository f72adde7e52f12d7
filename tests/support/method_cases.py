"""Every registered method with settings that any of them takes, and data that comes through a DataLoader."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fed_unlearn.data.images import ImageSet
from fed_unlearn.methods import Method, available, create

METHODS = list(available())
UNCONTROLLED = [name for name, cls in available().items() if not cls.is_control]
FEW_STEPS = {"max_steps": 4, "epochs": 1, "batch_size": 16, "target_accuracy": 0.0, "blends": 2}


def fields_of(name: str) -> set[str]:
    return {item.name for item in dataclasses.fields(available()[name])}


def with_field(field: str) -> list[str]:
    return [name for name in METHODS if field in fields_of(name)]


def created(name: str, **parameters: object) -> Method:
    """A method with those of the parameters that it has."""
    return create(name, **{key: value for key, value in parameters.items() if key in fields_of(name)})


def quick(name: str, **parameters: object) -> Method:
    return created(name, **{**FEW_STEPS, **parameters})


class Stored(Dataset[tuple[Tensor, int]]):
    """Samples as a plain dataset hands them over, one by one."""

    def __init__(self, samples: ImageSet) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.samples.images[index], int(self.samples.labels[index])


class LiveImages:
    """A collate function that counts the images of all batches that are still held by somebody."""

    def __init__(self) -> None:
        self.live = self.peak = self.largest_batch = self.read = 0

    def __call__(self, items: Sequence[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
        images = torch.stack([image for image, _ in items])
        self.read += len(items)
        self.live += len(items)
        self.peak = max(self.peak, self.live)
        self.largest_batch = max(self.largest_batch, len(items))
        weakref.finalize(images, self._release, len(items))
        return images, torch.tensor([label for _, label in items])

    def _release(self, count: int) -> None:
        self.live -= count


def streamed(samples: ImageSet, workers: int = 0) -> DataLoader[tuple[Tensor, Tensor]]:
    """A loader whose own batch size and order fit nothing that a method would choose."""
    return DataLoader(Stored(samples), batch_size=7, shuffle=True, num_workers=workers)  # type: ignore[arg-type]
