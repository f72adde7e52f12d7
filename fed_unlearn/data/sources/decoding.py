"""Encoded image files to one uint8 tensor, on several threads, and to the parts of a source."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fed_unlearn.data.clients import ImageSource
from fed_unlearn.data.sources.base import Source, contiguous_labels, make_source, stable_split
from fed_unlearn.data.sources.pixels import BLACK, WHITE, Pixels, full_scale, read_pixels
from fed_unlearn.errors import InvalidDataError

logger = logging.getLogger("fed_unlearn.data")

CHUNK = 256
_HALF = 127
_GROUNDS = {WHITE: "white", BLACK: "black"}


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
        The parts, one or two.
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
    Tensor of shape (n, channels, height, width)
        One channel where every image is grey, else three. uint8; float32 in [0, 1] where an image has more than eight
        bits, or floats: :func:`~fed_unlearn.data.sources.pixels.full_scale` of the largest pixel of all deep images is
        then white. Images are turned upright. Transparent parts are white, or black where an image would be nothing
        but white.

    Raises
    ------
    InvalidDataError
        If a file is no image, sizes differ and no ``image_size`` is given, or what an image shows would be lost.
    """
    pixels = _read_all(encoded, names, image_size, where, WHITE)
    composed = sum(image.is_composed for image in pixels)
    ground = WHITE
    if any(image.is_lost for image in pixels):
        pixels, ground = _read_all(encoded, names, image_size, where, BLACK), BLACK
        lost = next((name for name, image in zip(names, pixels, strict=True) if image.is_lost), None)
        if lost is not None:
            raise InvalidDataError(
                f"{where}: {lost} and others have transparent parts, and neither white nor black behind them keeps what"
                " all of them show; expected images on one ground"
            )
    if composed:
        logger.info("%s: %d images are transparent; %s is behind them", where, composed, _GROUNDS[ground])
    _check_depth(pixels, names, where)
    return torch.from_numpy(_stacked(pixels, names, where))


def _read_all(
    encoded: Sequence[bytes | Path | Image.Image],
    names: Sequence[str],
    image_size: tuple[int, int] | None,
    where: str,
    ground: int,
) -> list[Pixels]:
    def read_chunk(start: int) -> list[Pixels]:
        return [
            read_pixels(item, name, image_size, where, ground)
            for item, name in zip(encoded[start : start + CHUNK], names[start : start + CHUNK], strict=True)
        ]

    starts = range(0, len(encoded), CHUNK)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return [image for chunk in pool.map(read_chunk, starts) for image in chunk]


def _check_depth(pixels: Sequence[Pixels], names: Sequence[str], where: str) -> None:
    """Refuse colours of sixteen bits that do not use the upper bits, which alone are read."""
    cut = [(name, image) for name, image in zip(names, pixels, strict=True) if image.is_cut]
    if not cut:
        return
    logger.info("%s: %d images have colours of 16 bits; the upper 8 are read", where, len(cut))
    if max(int(image.values.max()) for _, image in cut) <= _HALF:
        raise InvalidDataError(
            f"{where}: {cut[0][0]} has colours of 16 bits, and no image uses the upper ones; they cannot be read"
            " without loss: scale the images to the whole range, or to 8 bits"
        )


def _stacked(pixels: Sequence[Pixels], names: Sequence[str], where: str) -> NDArray[np.uint8] | NDArray[np.float32]:
    """All images in one array; floats in [0, 1] where one is deep, unless eight bits hold all that is there."""
    deep = [image.values for image in pixels if image.is_deep]
    scale = full_scale(max((float(values.max()) for values in deep), default=0.0))
    is_float = bool(deep) and not (
        scale == float(WHITE) and all(bool((values == np.rint(values)).all()) for values in deep)
    )
    if deep:
        logger.info("%s: %d images of more than 8 bits or of floats; %g is white", where, len(deep), scale)
    channels = 3 if any(image.values.ndim == 3 for image in pixels) else 1
    height, width = pixels[0].values.shape[:2]
    images = np.empty((len(pixels), channels, height, width), dtype=np.float32 if is_float else np.uint8)
    for position, image in enumerate(pixels):
        values = image.values
        if values.shape[:2] != (height, width):
            raise InvalidDataError(
                f"{where}: {names[0]} is {height}x{width} pixels, {names[position]} is"
                f" {values.shape[0]}x{values.shape[1]} (height x width); give an image size to bring all to one"
            )
        images[position] = values.transpose(2, 0, 1) if values.ndim == 3 else values
        if is_float:
            images[position] /= scale if image.is_deep else WHITE
    return images
