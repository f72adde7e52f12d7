from __future__ import annotations

import pytest
import torch
from torch.utils.data import Dataset

from fed_unlearn.data.domain import PIXELS, TOKENS, VALUES, InputDomain
from fed_unlearn.data.lazy import LazySet
from fed_unlearn.logits import batch_slices

CPU = torch.device("cpu")


class Shaped(Dataset[tuple[torch.Tensor, int]]):
    """Inputs of one shape, all zeros."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self.shape, self.dtype = shape, dtype

    def __len__(self) -> int:
        return 5000

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.zeros(self.shape, dtype=self.dtype), 0


@pytest.mark.parametrize(
    ("shape", "domain", "size"),
    [
        ((1, 8, 8), PIXELS, 512),
        ((3, 32, 32), PIXELS, 128),  # activations of a hundred thousand places stay in the cache
        ((3, 224, 224), PIXELS, 16),
        ((3, 2000, 2000), PIXELS, 1),  # 48 MB each
        ((13,), VALUES, 512),
        ((2_000_000,), VALUES, 8),
        ((2, 16_000), VALUES, 16),
        ((1024,), TOKENS, 128),
        ((), VALUES, 512),
    ],
)
def test_batches_suit_the_size_of_an_input(shape: tuple[int, ...], domain: InputDomain, size: int) -> None:
    dtype = torch.int64 if domain.kind == "tokens" else torch.float32
    samples = LazySet(Shaped(shape, dtype), torch.zeros(5000, dtype=torch.int64), domain=domain)
    slices = list(batch_slices(samples, CPU))
    assert slices[0] == slice(0, size)
    assert [part.start for part in slices[1:]] == [part.stop for part in slices[:-1]] and slices[-1].stop >= 5000
    numbers = max(1, torch.Size(shape).numel())
    assert size == 1 or size * numbers * (8 if domain is TOKENS else 4) <= 2**26


def test_no_sample_makes_no_batch_and_nothing_is_read() -> None:
    empty = LazySet(Shaped((3,), torch.float32), torch.zeros(5000, dtype=torch.int64), domain=VALUES).only([])
    assert list(batch_slices(empty, CPU)) == []
