"""Models that are kept: found again by what determines them, and made again where the file is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from fed_unlearn.data.images import ImageSet
from fed_unlearn.simulations.bench.kept_models import KeptModels, MadeModel, samples_digest, state_digest
from fed_unlearn.simulations.bench.measures import Cost


def model(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3))


@pytest.fixture
def calls() -> list[int]:
    return []


def made_by(kept: KeptModels, key: dict[str, object], calls: list[int], made: nn.Module | None = None) -> MadeModel:
    def make() -> MadeModel:
        calls.append(len(calls))
        labels = torch.tensor([2, 0, 1])
        return MadeModel(model=made or model(7), cost=Cost(1.5, 10, 20, 3), converged=True, guard_labels=labels)

    return kept.made(lambda: key, model(0), make)


def test_a_kept_model_is_the_same_with_its_costs(tmp_path: Path, calls: list[int]) -> None:
    kept = KeptModels(tmp_path / "models")
    first, again = (made_by(kept, {"seed": 1}, calls) for _ in range(2))
    assert calls == [0] and (first.from_cache, again.from_cache) == (False, True)
    assert state_digest(again.model) == state_digest(first.model) == state_digest(model(7))
    assert again.cost == Cost(1.5, 10, 20, 3) and again.converged
    assert again.guard_labels is not None and again.guard_labels.tolist() == [2, 0, 1]
    made_by(kept, {"seed": 2}, calls)
    assert calls == [0, 1]


def test_without_a_folder_nothing_is_kept(calls: list[int]) -> None:
    def no_key() -> dict[str, object]:
        pytest.fail("a key was asked for")

    assert not KeptModels(None).made(no_key, model(0), lambda: made_by(KeptModels(None), {}, calls)).from_cache


def test_a_damaged_file_is_made_again(tmp_path: Path, calls: list[int], caplog: pytest.LogCaptureFixture) -> None:
    kept = KeptModels(tmp_path)
    made_by(kept, {}, calls)
    (path,) = tmp_path.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:100])
    assert not made_by(kept, {}, calls).from_cache
    assert "its model is made again" in caplog.text and made_by(kept, {}, calls).from_cache


def test_a_model_of_another_structure_is_not_kept(tmp_path: Path, calls: list[int]) -> None:
    kept = KeptModels(tmp_path)
    for _ in range(2):
        made_by(kept, {}, calls, nn.Sequential(model(0), nn.Softmax(dim=1)))
    assert calls == [0, 1] and not list(tmp_path.iterdir())


def test_digests_tell_samples_and_weights_apart() -> None:
    images, labels = torch.zeros(3, 1, 2, 2), torch.tensor([0, 1, 2])
    samples = ImageSet(images, labels, ["a", "b", "c"])
    other = [samples.subset(torch.tensor([0, 1])), samples.relabelled(labels.flip(0)), ImageSet(images, labels, "abd")]
    assert len({samples_digest(each) for each in [samples, None, *other]}) == 5
    assert state_digest(model(1)) != state_digest(model(2))
