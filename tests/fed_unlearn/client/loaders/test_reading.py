"""Labels and kinds of inputs of an app's loaders."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from fed_unlearn.client.loaders.batches import BatchKeys
from fed_unlearn.client.loaders.reading import Memory, first_batch, samples_of
from fed_unlearn.data.domain import VALUES

SUPPORT = Path(__file__).parents[3] / "support"
READ_ALL = """
import sys
sys.path.insert(0, {support!r})
from made_images import BYTES, CLASSES, MadeImages
from torch.utils.data import DataLoader
from fed_unlearn.client.loaders.batches import BatchKeys
from fed_unlearn.client.loaders.reading import Memory, first_batch, samples_of
from fed_unlearn.data.domain import PIXELS

def most():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024

loader = DataLoader(MadeImages(12_000), batch_size=32)
keys, before = BatchKeys.of(first_batch(loader)), most()
samples = samples_of(loader, keys, PIXELS, memory=Memory(0))
assert samples.labels.tolist() == [index % CLASSES for index in range(12_000)]
print(most() - before, 12_000 * BYTES)
"""


class Rows(Dataset[tuple[torch.Tensor, int]]):
    """Rows without a column of labels beside them."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.full((3,), float(index)), index % 4


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 100])
def test_labels_are_read_from_the_items_in_their_order(batch_size: int) -> None:
    loader = DataLoader(Rows(), batch_size=batch_size, shuffle=True)
    keys = BatchKeys.of(first_batch(loader))
    samples = samples_of(loader, keys, VALUES, memory=Memory())
    assert samples.labels.tolist() == [0, 1, 2, 3, 0, 1, 2] and samples.labels.dtype == torch.int64
    assert samples.batch()[0][:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]


class Relabelled(Rows):
    """Rows with a column of labels, of which the items of a stretch have others."""

    def __init__(self) -> None:
        self.targets = [index % 4 for index in range(700)]

    def __len__(self) -> int:
        return 700

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.zeros(3), 3 if 300 <= index < 320 else index % 4


def test_a_column_that_differs_from_some_items_is_not_believed() -> None:
    loader = DataLoader(Relabelled(), batch_size=50)
    samples = samples_of(loader, BatchKeys.of(first_batch(loader)), VALUES, memory=Memory())
    assert samples.labels[300:320].tolist() == [3] * 20


@pytest.mark.slow
def test_reading_the_labels_of_large_images_takes_little_memory() -> None:
    """Tensors that outlive each batch once kept as much memory as all images take, in some processes."""
    command = [sys.executable, "-c", READ_ALL.format(support=str(SUPPORT))]
    for _ in range(2):
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
        grown, whole = map(int, ended.stdout.split())
        assert grown < 0.2e9 < whole
