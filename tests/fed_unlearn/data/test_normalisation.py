"""The normalisation that an app's transforms show."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset, TensorDataset
from torchvision.datasets import FakeData
from torchvision.transforms import Compose, Normalize, RandomApply, ToTensor, functional, v2

from fed_unlearn.data.normalisation import found_normalisation
from fed_unlearn.errors import InvalidDataError

HALF = ((0.5,), (0.25,))
composed = Compose([ToTensor(), Normalize((0.5,), (0.25,))])
plain = Compose([ToTensor()])


def apply_composed(batch):
    batch["img"] = [composed(image) for image in batch["img"]]
    return batch


def apply_plain(batch):
    batch["img"] = [plain(image) for image in batch["img"]]
    return batch


def apply_through_another(batch):
    return apply_composed(batch)


class Processor:
    """As those of transformers."""

    image_mean, image_std, do_normalize = [0.1, 0.2, 0.3], [0.5, 0.5, 0.5], True


class OwnTransform:
    def __init__(self) -> None:
        self.steps = {"last": Normalize((0.5,), (0.25,))}

    def __call__(self, image):
        return self.steps["last"](ToTensor()(image))


processor = Processor()
normalize = Normalize((0.9,), (0.9,))


def apply_functional(batch):
    batch["img"] = [functional.normalize(ToTensor()(image), [0.5], [0.25]) for image in batch["img"]]
    return batch


def apply_processor(batch):
    return {"img": batch["img"], "mean": processor.image_mean}


def hub(transform) -> datasets.Dataset:
    image = Image.fromarray(np.zeros((4, 4), np.uint8))
    return datasets.Dataset.from_dict({"img": [image] * 3, "label": [0, 1, 2]}).with_transform(transform)


@pytest.mark.parametrize(
    "dataset, found",
    [
        (FakeData(transform=composed), HALF),
        (Subset(FakeData(transform=composed), [0]), HALF),
        (FakeData(transform=v2.Compose([v2.ToImage(), v2.Normalize([0.5], [0.25])])), HALF),
        (FakeData(transform=Compose([RandomApply([composed])])), HALF),
        (FakeData(transform=torch.nn.Sequential(Normalize((0.5,), (0.25,)))), HALF),
        (FakeData(transform=OwnTransform()), HALF),
        (FakeData(transform=lambda image: composed(image)), HALF),
        (FakeData(transform=plain), None),
        (hub(apply_composed), HALF),
        (hub(apply_through_another), HALF),
        (hub(apply_plain), None),
        (hub(apply_functional), None),
        (hub(apply_processor), ((0.1, 0.2, 0.3), (0.5, 0.5, 0.5))),
        (hub(None), None),
        (TensorDataset(torch.zeros(2)), None),
    ],
)
def test_found(dataset, found) -> None:
    assert found_normalisation(dataset) == found


def test_two_different_ones_are_refused() -> None:
    both = Compose([Normalize((0.5,), (0.25,)), Normalize((0.1,), (0.25,))])
    with pytest.raises(InvalidDataError, match=r"normalise in 2 ways.*normalize="):
        found_normalisation(FakeData(transform=both))
