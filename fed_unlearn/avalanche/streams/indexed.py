"""Views of ImageSets as ImageSets, without reading samples one by one."""

from __future__ import annotations

import numpy as np
import torch
from avalanche.benchmarks.utils import AvalancheDataset
from torch import Tensor

from fed_unlearn.avalanche.streams.samples import attribute_values, located
from fed_unlearn.avalanche.streams.transforms import is_changed
from fed_unlearn.data.images import ImageSet


def indexed(dataset: AvalancheDataset, ids: tuple[str, ...]) -> ImageSet | None:
    """Return the samples by indexing the ImageSets below; None if reading them one by one may give other values."""
    bases, numbers, positions = located(dataset)
    if not bases or not all(isinstance(base, ImageSet) for base in bases) or is_changed(dataset, 0):
        return None
    images, labels = _gathered(bases, torch.from_numpy(numbers), torch.from_numpy(positions))
    if is_changed(dataset, 1):  # nc_benchmark renames classes as samples are read
        if "targets" not in dataset._data_attributes:
            return None
        targets = np.array(attribute_values(dataset, "targets"), dtype=np.int64)
        _, examples = np.unique(np.stack([numbers, labels.numpy(), targets]), axis=1, return_index=True)
        read = dataset.eval()
        if any(int(read[index][1]) != targets[index] for index in examples.tolist()):
            return None
        labels = torch.from_numpy(targets)
    return ImageSet(images, labels, ids)


def _gathered(bases: list[ImageSet], numbers: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    if len(bases) == 1 and torch.equal(positions, torch.arange(len(bases[0]))):
        return bases[0].images, bases[0].labels
    if len(bases) == 1:
        return bases[0].images[positions], bases[0].labels[positions]
    images = torch.empty(len(positions), *bases[0].image_shape)
    labels = torch.empty(len(positions), dtype=torch.int64)
    for number, base in enumerate(bases):
        held = (numbers == number).nonzero().flatten()
        images[held], labels[held] = base.batch(positions[held])
    return images, labels
