"""torchvision's classification data sets, by class name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fed_unlearn.data.clients import ImageSource
from fed_unlearn.data.sources.base import (
    Part,
    Source,
    contiguous_labels,
    make_source,
    register,
    split_ids,
    split_part,
)
from fed_unlearn.data.sources.decoding import decode_images
from fed_unlearn.errors import InvalidDataError

DEFAULT_ROOT = Path.home() / ".cache" / "fed-unlearn" / "torchvision"
# Data sets that need one more argument than root, split and download: the common choice.
REQUIRED = {"EMNIST": {"split": "balanced"}, "INaturalist": {"version": "2021_train_mini"}}
# Where a data set calls its splits otherwise, the first pair that it takes is used.
SPLITS = (("train", "test"), ("trainval", "test"), ("train", "val"), ("train", "valid"), ("train-standard", "val"))


@register("torchvision")
@dataclass(frozen=True, kw_only=True)
class TorchVision(Source):
    """A classification data set of torchvision, by its class name in ``torchvision.datasets``."""

    place_is: ClassVar[str] = "NAME"

    def load(self) -> ImageSource:
        """Read the training and test part as uint8; ids are indexes in the split."""
        where = self.where
        dataset_class = _dataset_class(self.place, where)
        opened = _open_parts(dataset_class, self.place, self.root or DEFAULT_ROOT, self.download, where)
        parts = [_read(dataset, where, self.image_size) for dataset in opened]
        names = _class_names(opened[0])
        raw = [labels for _, labels in parts]
        if names is not None and all(0 <= label < len(names) for part in raw for label in part):
            labels = [torch.tensor(part, dtype=torch.int64) for part in raw]
        else:
            labels, names = contiguous_labels(*raw)
        names_of_parts = ("train", "test")[: len(parts)]
        made: list[Part] = [
            (images, encoded, split_ids(part, len(images)))
            for part, (images, _), encoded in zip(names_of_parts, parts, labels, strict=True)
        ]
        train, test = made if len(made) == 2 else split_part(made[0], self.test_fraction)
        return make_source(train, test, names, where, image_size=self.image_size)


def _dataset_class(name: str, where: str) -> Callable[..., Any]:
    import torchvision

    dataset_class = getattr(torchvision.datasets, name, None)
    if not inspect.isclass(dataset_class) or not issubclass(dataset_class, torchvision.datasets.VisionDataset):
        known = [known for known in torchvision.datasets.__all__ if known[0].isupper()]
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or ["CIFAR10", "FashionMNIST", "SVHN"]
        raise InvalidDataError(f"{where}: torchvision has no such data set; for instance {', '.join(close)}")
    return dataset_class


def _open_parts(dataset_class: Any, name: str, folder: Path, download: bool, where: str) -> list[Any]:
    import torchvision

    accepted = inspect.signature(dataset_class).parameters
    keywords: dict[str, object] = dict(REQUIRED.get(name, {}))
    if "root" in accepted:
        keywords["root"] = str(folder)
    # MNIST's relatives hand what they do not name themselves on to MNIST.
    is_mnist = issubclass(dataset_class, torchvision.datasets.MNIST)
    if "download" in accepted or is_mnist:
        keywords["download"] = download
    choices: Sequence[Sequence[dict[str, object]]] = [[{}]]
    if "train" in accepted or is_mnist:
        choices = [[{"train": True}, {"train": False}]]
    elif "split" in accepted and "split" not in keywords:
        choices = [[{"split": split} for split in pair] for pair in SPLITS]
    problem: Exception | None = None
    for parts in choices:
        try:
            return [dataset_class(**keywords, **part) for part in parts]
        except (RuntimeError, OSError, ValueError, TypeError) as error:
            if problem is None or not isinstance(error, ValueError):
                problem = error
            if not isinstance(error, ValueError):
                break
    reason = str(problem).strip().splitlines()[0]
    advice = "" if download else f" under {folder}; allow the download, or give the root folder that holds it"
    raise InvalidDataError(f"{where}: cannot be opened{advice} ({reason})") from problem


def _read(dataset: Any, where: str, image_size: tuple[int, int] | None) -> tuple[Tensor, list[int]]:
    data = getattr(dataset, "data", None)
    labels = next((getattr(dataset, key) for key in ("targets", "labels") if hasattr(dataset, key)), None)
    if isinstance(data, np.ndarray | Tensor) and data.ndim in (3, 4) and labels is not None and np.ndim(labels) == 1:
        images = torch.as_tensor(data)
        if images.ndim == 3:
            images = images.unsqueeze(1)
        elif images.shape[1] not in (1, 3):
            images = images.permute(0, 3, 1, 2)
        if images.dtype != torch.uint8:
            raise InvalidDataError(
                f"{where}: its images are {images.dtype} from {float(images.min()):g} to {float(images.max()):g};"
                " expected bytes (uint8)"
            )
        return images.contiguous(), [int(label) for label in labels]
    items = _Items(dataset, where)
    images = decode_images(items, [f"image {index}" for index in range(len(items))], image_size, where)
    return images, items.labels


class _Items(Sequence[Image.Image]):
    """Images read slice by slice, so that only the resized ones are ever all in memory; labels are kept."""

    def __init__(self, dataset: Any, where: str) -> None:
        self.dataset = dataset
        self.where = where
        self.labels = [0] * len(dataset)

    def __len__(self) -> int:
        return len(self.labels)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...

    @overload
    def __getitem__(self, index: slice) -> list[Image.Image]: ...

    def __getitem__(self, index: int | slice) -> Image.Image | list[Image.Image]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        sample = self.dataset[index]
        if not isinstance(sample, tuple) or len(sample) != 2 or not isinstance(sample[1], int | np.integer):
            raise InvalidDataError(f"{self.where}: its samples are not (image, one label): no classification data set")
        self.labels[index] = int(sample[1])
        image: Image.Image = sample[0]
        return image


def _class_names(dataset: Any) -> tuple[str, ...] | None:
    names = getattr(dataset, "classes", None)
    if not names:
        return None
    return tuple(str(name[0] if isinstance(name, tuple) else name) for name in names)
