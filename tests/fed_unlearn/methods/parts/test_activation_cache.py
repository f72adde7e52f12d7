from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
from torch import nn

from fed_unlearn.data.tensors import TensorSet
from fed_unlearn.methods.parts import activation_cache
from fed_unlearn.methods.parts.activation_cache import kept_activations

LOWER = nn.Linear(4, 3)
SAMPLES = TensorSet(torch.rand(1100, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(1100).long())


@pytest.mark.parametrize("most_bytes", [1100 * 3 * 4, 1100 * 3 * 4 - 1])
def test_activations_are_kept_in_memory_or_in_a_file(
    most_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with kept_activations(LOWER, LOWER, SAMPLES, torch.device("cpu"), most_bytes) as held:
        assert held is not None
        torch.testing.assert_close(held, LOWER(SAMPLES.inputs).detach())
        files = [path.stat().st_size for path in tmp_path.rglob("activations")]
    assert files == ([] if most_bytes == 1100 * 3 * 4 else [1100 * 3 * 4])
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_kept_where_the_disk_is_too_full(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        free = 20_000

    monkeypatch.setattr(activation_cache.shutil, "disk_usage", lambda path: Full)
    with kept_activations(LOWER, LOWER, SAMPLES, torch.device("cpu"), 0) as held:
        assert held is None
