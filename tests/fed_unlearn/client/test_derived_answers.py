"""What follows from the answers of the model before, held against what the model with its rows set answers itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from fed_unlearn.audits.scores import scored_by
from fed_unlearn.client.derived_answers import CHECKED, RowsSet
from fed_unlearn.client.judged_models import JudgedModels
from fed_unlearn.client.known_answers import KnownAnswers
from fed_unlearn.data.tensors import TensorSet
from fed_unlearn.methods.parts.mean_rows import take_mean_rows
from fed_unlearn.model_copies import copied

ROWS = RowsSet((3,), (0, 1, 2, 4))
SAMPLES = TensorSet(torch.randn(50, 6, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 5)


def model_of(bias: bool = True) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5, bias=bias))


def with_rows_set(model: nn.Sequential) -> nn.Sequential:
    changed = copied(model)
    take_mean_rows("test", changed[2], [3])
    return changed


def read(model: nn.Module, folder: Path, rows: RowsSet | None) -> JudgedModels:
    known = KnownAnswers(folder, "digits")
    judged = JudgedModels(model, None, known, "r1#1", rows)
    judged.read(SAMPLES.subset(torch.arange(20)), scored=True)
    judged.read(SAMPLES, scored=True)
    known.save()
    return judged


@pytest.mark.parametrize("bias", [True, False])
def test_derived_answers_are_those_of_the_model_and_read_few_samples(tmp_path: Path, bias: bool) -> None:
    before, after = model_of(bias), with_rows_set(model_of(bias))
    assert read(before, tmp_path, None).passes == 50 + 2
    judged = read(after, tmp_path, ROWS)
    assert judged.passes == CHECKED + 2
    logits, read_of = judged.read(SAMPLES, scored=True)
    expected, scores = scored_by(after[2], after, SAMPLES)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(read_of.scores, scores, atol=1e-5, rtol=1e-5)
    assert read(after, tmp_path, ROWS).passes == CHECKED + 2, "made again after a crash, it costs the same"


@pytest.mark.parametrize("rows", [RowsSet((2,), (0, 1, 3, 4)), RowsSet((3,), (0, 1)), RowsSet((9,), (0,))])
def test_all_are_read_where_the_model_answers_otherwise(tmp_path: Path, rows: RowsSet) -> None:
    after = with_rows_set(model_of())
    read(model_of(), tmp_path, None)
    judged = read(after, tmp_path, rows)
    assert judged.passes == 50 + 2
    torch.testing.assert_close(judged.read(SAMPLES, scored=True)[0], scored_by(after[2], after, SAMPLES)[0])


def test_all_are_read_where_another_layer_changed_too_or_nothing_is_known(tmp_path: Path) -> None:
    after = with_rows_set(model_of())
    assert read(after, tmp_path / "new", ROWS).passes == 50 + 2
    read(model_of(), tmp_path, None)
    with torch.no_grad():
        after[0].weight += 0.01
    assert read(after, tmp_path, ROWS).passes == 50 + 2
