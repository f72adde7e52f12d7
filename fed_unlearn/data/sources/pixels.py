"""One image to an array of pixels: turned upright, composed on a ground, and with all of its depth."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from fed_unlearn.errors import InvalidDataError

WHITE, BLACK = 255, 0

_GREY_MODES = frozenset({"1", "L", "LA", "La"})
_DEEP_MODES = frozenset({"I", "F"})
_DEPTHS = (8, 10, 12, 14, 16, 24, 32)
"""Bits of a pixel that cameras, scanners and file formats have."""


@dataclass(frozen=True)
class Pixels:
    """The pixels of one image.

    Attributes
    ----------
    values : ndarray of shape (height, width) or (height, width, 3)
        uint8; float32 in the image's own range where it is deep.
    is_composed : bool
        Whether it has transparent parts, and was composed on a ground.
    is_lost : bool
        Whether it has transparent and opaque parts, and one colour everywhere on this ground.
    is_cut : bool
        Whether only the upper eight bits of each colour could be read.
    """

    values: NDArray[np.uint8] | NDArray[np.float32]
    is_composed: bool = False
    is_lost: bool = False
    is_cut: bool = False

    @property
    def is_deep(self) -> bool:
        """Whether its values need a scale."""
        return self.values.dtype == np.float32


def read_pixels(
    item: bytes | Path | Image.Image, name: str, image_size: tuple[int, int] | None, where: str, ground: int = WHITE
) -> Pixels:
    """Read one image.

    An image that says how its camera was held is turned upright. Transparent parts show the ground. Images of more than
    eight bits and of floats keep their values.

    Parameters
    ----------
    item : bytes, Path or PIL image
    name : str
        What to call it in an error.
    image_size : (height, width), optional
        Size that the image is resized to.
    where : str
        What to call the source in an error.
    ground : int
        Grey of the ground, 0 to 255.

    Raises
    ------
    InvalidDataError
        If it is no image, or a pixel is negative or not a number.
    """
    try:
        if isinstance(item, Image.Image):
            image = item
        else:
            image = Image.open(io.BytesIO(item) if isinstance(item, bytes) else item)
        is_cut = any(";16" in str(part) for tile in getattr(image, "tile", ()) for part in tile[3:])
        image = ImageOps.exif_transpose(image)
        if image.mode in _DEEP_MODES or image.mode.startswith("I;16"):
            return Pixels(_deep(image, name, image_size, where))
        is_composed, alpha_varies = False, False
        if image.has_transparency_data:
            is_grey, image = image.mode in _GREY_MODES, image.convert("RGBA")
            alpha = np.asarray(image.getchannel("A"))
            is_composed, alpha_varies = bool(alpha.min() < 255), bool(alpha.min() < alpha.max())
            below = Image.new("RGBA", image.size, (ground, ground, ground, 255))
            image = Image.alpha_composite(below, image).convert("L" if is_grey else "RGB")
        elif image.mode not in ("L", "RGB"):
            image = image.convert("L" if image.mode in _GREY_MODES else "RGB")
        if image_size is not None and image.size != (image_size[1], image_size[0]):
            image = image.resize((image_size[1], image_size[0]), Image.Resampling.BILINEAR)
        values = np.asarray(image)
        return Pixels(values, is_composed, alpha_varies and _is_constant(values), is_cut)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, InvalidDataError):
            raise
        reason = "of no known format" if isinstance(error, UnidentifiedImageError) else error
        raise InvalidDataError(f"{where}: {name} cannot be read as an image ({reason})") from error


def _is_constant(values: NDArray[np.uint8]) -> bool:
    return bool((values.min(axis=(0, 1)) == values.max(axis=(0, 1))).all())


def _deep(image: Image.Image, name: str, image_size: tuple[int, int] | None, where: str) -> NDArray[np.float32]:
    values = np.asarray(image).astype(np.float32)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high < np.inf):
        raise InvalidDataError(
            f"{where}: {name} has pixels from {low:.6g} to {high:.6g}; expected numbers from 0: shift and scale the"
            " images before, for all in the same way"
        )
    if image_size is not None and image.size != (image_size[1], image_size[0]):
        resized = Image.fromarray(values).resize((image_size[1], image_size[0]), Image.Resampling.BILINEAR)
        values = np.asarray(resized)
    return values


def full_scale(largest: float) -> float:
    """What is white where the largest pixel of all deep images of a data set is this.

    Parameters
    ----------
    largest : float
        The largest pixel, at least 0.

    Returns
    -------
    float
        Value of white: 1 where no pixel is larger; else the largest number of the fewest bits that hold it, among 8,
        10, 12, 14, 16, 24 and 32, or ``largest`` where none do. It is the same for all parts of a data set, and for
        clients whose images come from the same kind of camera.
    """
    if largest <= 1:
        return 1.0
    return float(next((2**bits - 1 for bits in _DEPTHS if largest <= 2**bits - 1), largest))
