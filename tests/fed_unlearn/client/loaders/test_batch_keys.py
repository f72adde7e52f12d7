"""Where inputs and labels lie in the batches of apps."""

from __future__ import annotations

from collections import namedtuple

import pytest
import torch

from fed_unlearn.client.loaders.batches import BatchKeys
from fed_unlearn.errors import InvalidDataError

IMAGES, LABELS = torch.rand(3, 1, 4, 4), torch.tensor([2, 0, 1])
Pair = namedtuple("Pair", "x y")


@pytest.mark.parametrize(
    "batch, keys",
    [
        ([IMAGES, LABELS], BatchKeys(0, 1)),
        ((IMAGES, LABELS), BatchKeys(0, 1)),
        (Pair(IMAGES, LABELS), BatchKeys(0, 1)),
        ({"img": IMAGES, "label": LABELS}, BatchKeys("img", "label")),
        ({"label": LABELS, "file": ["a", "b", "c"], "img": IMAGES}, BatchKeys("img", "label")),
        (
            {"tokens": torch.ones(3, 7, dtype=torch.int64), "label": LABELS.to(torch.int32)},
            BatchKeys("tokens", "label"),
        ),
        ({"img": IMAGES, "label": [2, 0, 1]}, BatchKeys("img", "label")),
        ((IMAGES, ["a", "b", "c"], LABELS), BatchKeys(0, 2)),
    ],
)
def test_found_without_help(batch: object, keys: BatchKeys) -> None:
    assert BatchKeys.of(batch) == keys
    inputs, labels = keys.split(batch)
    assert len(inputs) == 3 and labels.tolist() == [2, 0, 1] and labels.dtype == torch.int64


@pytest.mark.parametrize(
    "batch, said",
    [
        ({"img": IMAGES, "label": LABELS, "person": LABELS}, "'label', 'person' may be the labels"),
        ({"left": IMAGES, "right": IMAGES, "label": LABELS}, "'left', 'right' may be the inputs"),
        ({"img": IMAGES, "label": LABELS / 2}, "none of 'img', 'label' can be the labels"),
        ({"img": IMAGES, "label": torch.nn.functional.one_hot(LABELS)}, "none of 'img', 'label' can be the labels"),
        ([IMAGES, LABELS > 0], "labels of shape (3,) and torch.bool"),
        (IMAGES, "batches of type Tensor"),
    ],
)
def test_refused_in_one_line(batch: object, said: str) -> None:
    with pytest.raises(InvalidDataError) as caught:
        BatchKeys.of(batch)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_named_keys_decide_between_several() -> None:
    batch = {"img": IMAGES, "label": LABELS, "person": LABELS + 1}
    keys = BatchKeys.of(batch, label_key="person")
    assert keys == BatchKeys("img", "person") and keys.split(batch)[1].tolist() == [3, 1, 2]
    with pytest.raises(InvalidDataError, match="no 'identity'; they have 'img', 'label', 'person'"):
        BatchKeys.of(batch, input_key="img", label_key="identity")


def test_other_labels_keep_the_kind_of_batch() -> None:
    new = torch.tensor([5, 6, 7])
    pair = BatchKeys(0, 1).with_labels(Pair(IMAGES, LABELS.to(torch.int32)), new)
    assert isinstance(pair, Pair) and pair.y.tolist() == [5, 6, 7] and pair.y.dtype == torch.int32
    assert BatchKeys(0, 1).with_labels([IMAGES, LABELS], new)[1].tolist() == [5, 6, 7]
    batch = {"img": IMAGES, "label": [2, 0, 1], "file": ["a", "b", "c"]}
    changed = BatchKeys("img", "label").with_labels(batch, new)
    assert changed == {**batch, "label": [5, 6, 7]} and batch["label"] == [2, 0, 1]
