"""Triggers: which pixels and which labels they change."""

from __future__ import annotations

import pytest
import torch

from fed_unlearn.data.domain import InputDomain
from fed_unlearn.data.images import ImageSet
from fed_unlearn.data.tensors import TensorSet
from fed_unlearn.data.trigger import CORNERS, Corner, Trigger
from fed_unlearn.errors import InvalidDataError, InvalidParameterError
from fed_unlearn.seeding import seeded_generator

LABELS = torch.arange(40) % 4
NORMALIZED = InputDomain.normalized((0.2, 0.4, 0.5), (0.5, 0.25, 1.0))


def images(kind: str, channels: int) -> TensorSet:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(40, channels, 6, 5, generator=generator)
    ids = [f"image-{index}" for index in range(40)]
    if kind == "bytes":
        return ImageSet((pixels * 255).to(torch.uint8), LABELS, ids)
    if kind == "floats":
        return ImageSet(pixels, LABELS, ids)
    return TensorSet(NORMALIZED.from_pixels(pixels), LABELS, ids, domain=NORMALIZED)


def is_marked(corner: Corner, row: int, column: int) -> bool:
    """Whether a pixel of 6 x 5 lies in a square of 2 x 2."""
    rows = (0, 1) if corner.startswith("top") else (4, 5)
    columns = (0, 1) if corner.endswith("left") else (3, 4)
    return row in rows and column in columns


@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize(("kind", "channels"), [("bytes", 1), ("bytes", 3), ("floats", 1), ("floats", 4), ("norm", 3)])
def test_pixel_by_pixel(corner: Corner, kind: str, channels: int) -> None:
    samples = images(kind, channels)
    shown = Trigger(2, size=2, value=0.8, corner=corner).shown(samples)
    others = [index for index in range(40) if LABELS[index] != 2]
    assert type(shown) is type(samples) and shown.domain == samples.domain
    assert shown.ids == tuple(f"image-{index}" for index in others)
    assert shown.labels.tolist() == [2] * len(others)
    before, after = samples.batch()[0][others], shown.batch()[0]
    for channel in range(channels):
        value = 204 / 255 if kind == "bytes" else 0.8
        if kind == "norm":
            value = (0.8 - NORMALIZED.mean[channel]) / NORMALIZED.std[channel]
        for row in range(6):
            for column in range(5):
                there, kept = after[:, channel, row, column], before[:, channel, row, column]
                expected = torch.full_like(kept, value) if is_marked(corner, row, column) else kept
                assert torch.allclose(there, expected, atol=1e-6)


def test_planting_marks_a_share_of_the_other_classes_alone() -> None:
    samples = images("floats", 1)
    before = samples.inputs.clone()
    trigger = Trigger(2, size=1, value=1.0, fraction=0.4)
    planted = trigger.planted(samples, seeded_generator(1))
    changed = (planted.inputs != samples.inputs).flatten(1).any(1)
    assert int(changed.sum()) == 12, "0.4 of 30"
    assert not changed[LABELS == 2].any()
    assert planted.labels[changed].tolist() == [2] * 12 and torch.equal(planted.labels[~changed], LABELS[~changed])
    assert planted.ids == samples.ids and torch.equal(samples.inputs, before) and torch.equal(samples.labels, LABELS)
    again, other = (trigger.planted(samples, seeded_generator(seed)) for seed in (1, 2))
    assert torch.equal(again.inputs, planted.inputs) and not torch.equal(other.labels, planted.labels)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"target_class": -1}, "target_class -1"),
        ({"size": 0}, "size 0"),
        ({"value": float("nan")}, "value nan"),
        ({"corner": "middle"}, "corner 'middle'"),
        ({"fraction": 0.0}, "fraction 0.0"),
    ],
)
def test_values_out_of_range_are_refused(settings: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidParameterError, match=named):
        Trigger(**{"target_class": 0, **settings})  # type: ignore[arg-type]


def test_inputs_that_are_no_images_are_refused() -> None:
    rows = TensorSet(torch.zeros(3, 8), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(InvalidDataError, match=r"inputs of shape \(8,\)"):
        Trigger(1).shown(rows)
    with pytest.raises(InvalidDataError, match="at least 6 pixels"):
        Trigger(1, size=6).shown(images("bytes", 1))
    with pytest.raises(InvalidDataError, match="from 0 to 1"):
        Trigger(1, value=1.5).shown(images("floats", 1))


def test_inputs_of_another_shape_do_not_take_the_place_of_inputs() -> None:
    with pytest.raises(InvalidDataError, match="expected"):
        images("floats", 1).with_inputs(torch.zeros(40, 1, 6, 6))
