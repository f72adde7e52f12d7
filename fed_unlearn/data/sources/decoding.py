"""Encoded image files to one uint8 tensor, on several threads, and to the parts of a source."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from fed_unlearn.data.clients import ImageSource
from fed_unlearn.data.sources.base import Source, contiguous_labels, make_source, stable_split
from fed_unlearn.errors import InvalidDataError

CHUNK = 256
GREY_MODES = frozenset({"1", "L", "LA", "I", "F"})


@dataclass(frozen=True)
class Encoded:
    """Encoded images, and their labels and ids."""

    images: Sequence[bytes]
    labels: Sequence[object]
    ids: Sequence[str]

    def at(self, positions: Tensor) -> Encoded:
        """Some of them, of shape (n,), int64."""
        kept = positions.tolist()
        return Encoded(*([values[index] for index in kept] for values in (self.images, self.labels, self.ids)))


def decoded_source(
    parts: Sequence[Encoded], source: Source, where: str, class_names: Sequence[str] | None = None
) -> ImageSource:
    """Decode a training and a test part, or one part that is split by :func:`stable_split`.

    Parameters
    ----------
    parts : sequence of Encoded
        One or two.
    source : Source
        Gives the image size and the share of test data.
    where : str
        What to call the source in an error.
    class_names : sequence of str, optional
        Labels are indices of these; without them classes are the labels that occur, in order.

    Raises
    ------
    InvalidDataError
        If a part is empty, or an image cannot be read.
    """
    if len(parts) == 1:
        [positions], _ = contiguous_labels(parts[0].labels)
        parts = [parts[0].at(kept) for kept in stable_split(parts[0].ids, positions, source.test_fraction)]
    train, test = parts
    if not train.ids or not test.ids:
        raise InvalidDataError(f"{where}: {len(train.ids)} training and {len(test.ids)} test images; both are needed")
    if class_names is None:
        labels, class_names = contiguous_labels(train.labels, test.labels)
    else:
        labels = [torch.tensor(part.labels, dtype=torch.int64) for part in parts]
    contents = [*train.images, *test.images]
    images = decode_images(contents, [*train.ids, *test.ids], source.image_size, where)
    sides = images.split([len(train.ids), len(test.ids)])
    first, second = ((side, known, part.ids) for side, known, part in zip(sides, labels, parts, strict=True))
    return make_source(first, second, class_names, where, contents=contents)


def decode_images(
    encoded: Sequence[bytes | Path | Image.Image],
    names: Sequence[str],
    image_size: tuple[int, int] | None,
    where: str,
) -> Tensor:
    """Decode images of one size, or bring them to one.

    Parameters
    ----------
    encoded : sequence of bytes, Path or PIL image
    names : sequence of str
        What to call each in an error.
    image_size : (height, width), optional
    where : str
        What to call the source in an error.

    Returns
    -------
    Tensor of shape (n, channels, height, width), uint8
        One channel where every image is grey, else three.

    Raises
    ------
    InvalidDataError
        If a file is no image, or sizes differ and no ``image_size`` is given.
    """

    def decode_chunk(start: int) -> list[NDArray[np.uint8]]:
        return [
            _decode(item, name, image_size, where)
            for item, name in zip(encoded[start : start + CHUNK], names[start : start + CHUNK], strict=True)
        ]

    starts = range(0, len(encoded), CHUNK)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        arrays = [array for chunk in pool.map(decode_chunk, starts) for array in chunk]
    colour = any(array.ndim == 3 for array in arrays)
    shape = arrays[0].shape[:2]
    images = np.empty((len(arrays), 3 if colour else 1, *shape), dtype=np.uint8)
    for position, array in enumerate(arrays):
        if array.shape[:2] != shape:
            raise InvalidDataError(
                f"{where}: {names[0]} is {shape[0]}x{shape[1]} pixels, {names[position]} is"
                f" {array.shape[0]}x{array.shape[1]} (height x width); give an image size to bring all to one"
            )
        images[position] = array.transpose(2, 0, 1) if array.ndim == 3 else array
    return torch.from_numpy(images)


def _decode(
    item: bytes | Path | Image.Image, name: str, image_size: tuple[int, int] | None, where: str
) -> NDArray[np.uint8]:
    try:
        image = (
            item if isinstance(item, Image.Image) else Image.open(io.BytesIO(item) if isinstance(item, bytes) else item)
        )
        if image.mode not in ("L", "RGB"):
            image = _eight_bits(image)
        if image_size is not None and image.size != (image_size[1], image_size[0]):
            image = image.resize((image_size[1], image_size[0]), Image.Resampling.BILINEAR)
        return np.asarray(image)
    except (OSError, ValueError) as error:
        reason = "of no known format" if isinstance(error, UnidentifiedImageError) else error
        raise InvalidDataError(f"{where}: {name} cannot be read as an image ({reason})") from error


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    return image.convert("L" if image.mode in GREY_MODES else "RGB")
