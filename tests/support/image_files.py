"""Writes small data sets of images into folders and parquet files."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def ramp(index: int = 0, height: int = 16, width: int = 16) -> NDArray[np.uint8]:
    """Every grey of a byte once, begun at another one for each index."""
    return ((np.arange(height * width) + index) % 256).astype(np.uint8).reshape(height, width)


def encoded(pixels: NDArray[Any], kind: str = "png", **options: Any) -> bytes:
    """An image file in memory."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def write_classes(folder: Path, classes: Sequence[str] = ("cat", "dog", "fox"), count: int = 4, first: int = 0) -> Path:
    """One sub-folder a class, each with images that differ from all others."""
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            (folder / name / f"{index}.png").write_bytes(encoded(ramp(first + 20 * number + index, 4, 4)))
    return folder


def write_patterns(folder: Path, classes: int, count: int, height: int, width: int, *, colour: bool) -> Path:
    """One sub-folder a class, with noisy images of a pattern of 4 x 4 fields that is the class's own."""
    random = np.random.default_rng(0)
    channels = 3 if colour else 1
    for number in range(classes):
        fields = random.integers(40, 180, (4, 4, channels))
        pattern = np.kron(fields, np.ones((height // 4, width // 4, 1)))
        (folder / f"{number:02}").mkdir(parents=True)
        for index in range(count):
            pixels = np.clip(pattern + random.normal(20, 25, pattern.shape), 0, 255).astype(np.uint8)
            (folder / f"{number:02}" / f"{index}.png").write_bytes(encoded(pixels if colour else pixels[:, :, 0]))
    return folder


def write_images(folder: Path, images: Sequence[bytes], ending: str = "png") -> Path:
    """Images in turn into two classes, ``a`` and ``b``."""
    for index, content in enumerate(images):
        (folder / "ab"[index % 2]).mkdir(parents=True, exist_ok=True)
        (folder / "ab"[index % 2] / f"{index}.{ending}").write_bytes(content)
    return folder


def write_table(folder: Path, features: dict[str, Any], split: str = "train", **columns: Sequence[Any]) -> Path:
    """A parquet file with a column ``image`` of small images, and other columns of the given types."""
    import datasets

    count = len(next(iter(columns.values())))
    columns = {"image": [{"bytes": encoded(ramp(index, 4, 4)), "path": None} for index in range(count)], **columns}
    table = datasets.Dataset.from_dict(
        {name: list(values) for name, values in columns.items()},
        features=datasets.Features({"image": datasets.Image(), **features}),
    )
    folder.mkdir(parents=True, exist_ok=True)
    table.to_parquet(str(folder / f"{split}-00000-of-00001.parquet"))
    return folder
