"""Features are computed once, survive a process, and go with the samples."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from fed_unlearn.client.kept_features import FILE_NAME, KeptFeatures
from fed_unlearn.data.images import ImageSet
from fed_unlearn.methods.parts.frozen_features import frozen_features
from fed_unlearn.methods.parts.heads import find_head
from fed_unlearn.methods.parts.ridge import FEATURE_STEP
from fed_unlearn.seeding import isolated_random

SAMPLES = ImageSet(torch.rand(12, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3)


def network(seed: int = 0) -> nn.Sequential:
    with isolated_random(seed):
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 3))


def opened(folder: Path) -> KeptFeatures:
    return KeptFeatures(folder, "data", lambda sample_id: f"key of {hash(sample_id)}")


def asked(kept: KeptFeatures, samples: ImageSet, model: nn.Module) -> int:
    """How many samples are read, with what comes out compared with a pass over all of them."""
    head = find_head("test", model, samples)
    features, passes = kept.of("test", model, head, samples, FEATURE_STEP)
    expected = (frozen_features("test", model, head, samples) / FEATURE_STEP).round() * FEATURE_STEP
    assert torch.equal(features, expected)
    return passes


def test_a_sample_is_read_once_whatever_the_output_layer_is(tmp_path: Path) -> None:
    kept, model = opened(tmp_path), network()
    assert asked(kept, SAMPLES.subset(torch.arange(8)), model) == 8
    kept.save()
    with torch.no_grad():
        model[3].weight.add_(1)
    again = opened(tmp_path)
    assert asked(again, SAMPLES.subset(torch.tensor([3, 0, 9, 7])), model) == 1
    assert asked(again, SAMPLES, model) == 3


def test_another_backbone_or_a_damaged_file_reads_all_again(tmp_path: Path) -> None:
    kept = opened(tmp_path)
    assert asked(kept, SAMPLES, network()) == 12
    kept.save()
    assert asked(opened(tmp_path), SAMPLES, network(1)) == 12
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes()[:-5])
    assert asked(opened(tmp_path), SAMPLES, network()) == 12


def test_what_may_be_read_no_longer_is_dropped_from_the_file(tmp_path: Path) -> None:
    kept, model = opened(tmp_path), network()
    asked(kept, SAMPLES, model)
    kept.save(SAMPLES.ids[:4])
    again = opened(tmp_path)
    assert asked(again, SAMPLES.subset(torch.arange(4, 12)), model) == 0
    assert asked(again, SAMPLES, model) == 4


def test_a_client_that_never_sent_sums_has_no_file(tmp_path: Path) -> None:
    opened(tmp_path).save(["some"])
    assert list(tmp_path.iterdir()) == []
