"""What of an image file reaches the model: transparency, depth, floats, and how the camera was held."""

import io
import logging
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_files import encoded, ramp, write_classes, write_images
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fed_unlearn.data.sources import load_source
from fed_unlearn.data.sources.decoding import decode_images
from fed_unlearn.data.sources.pixels import full_scale
from fed_unlearn.errors import InvalidDataError


def decoded(*contents: bytes, image_size: tuple[int, int] | None = None) -> Tensor:
    return decode_images(contents, [f"image {index}" for index in range(len(contents))], image_size, "here")


def inked(channels: int, ink: int) -> NDArray[np.uint8]:
    """Ink of one grey on the left half, and nothing on the right half."""
    pixels = np.full((4, 4, channels), ink, np.uint8)
    pixels[:, 2:, -1], pixels[:, :2, -1] = 0, 255
    return pixels


@pytest.mark.parametrize(("channels", "kind"), [(2, "png"), (4, "png"), (4, "webp"), (2, "tiff"), (4, "tiff")])
def test_black_ink_on_nothing_stands_on_white(channels: int, kind: str) -> None:
    options = {"lossless": True, "exact": True} if kind == "webp" else {}
    images = decoded(*[encoded(inked(channels, 0), kind, **options)] * 2)
    assert images.shape[1] == (1 if channels == 2 else 3)
    assert (images[..., :2] == 0).all() and (images[..., 2:] == 255).all()


@pytest.mark.parametrize("channels", [2, 4])
def test_white_ink_on_nothing_stands_on_black(channels: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "fed_unlearn.data"):
        images = decoded(encoded(inked(channels, 255)), encoded(inked(channels, 200)))
    assert (images[0, ..., :2] == 255).all() and (images[0, ..., 2:] == 0).all()
    assert (images[1, ..., :2] == 200).all() and (images[1, ..., 2:] == 0).all()
    assert "2 images are transparent; black is behind them" in caplog.text


def test_a_transparent_colour_of_a_palette_is_the_ground() -> None:
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8)).convert("P")
    image.putpalette([10, 10, 10, 20, 30, 40])
    stream = io.BytesIO()
    image.save(stream, "png", transparency=0)
    assert decoded(stream.getvalue())[0, :, 0].tolist() == [[255, 20], [255, 30], [255, 40]]


def test_half_of_the_light_passes_half_of_the_ground() -> None:
    pixels = np.array([[[0, 0, 0, 128], [0, 0, 0, 255]]], np.uint8)
    assert decoded(encoded(pixels))[0, 0, 0].tolist() == [127, 0]


def test_ink_that_no_ground_shows_is_refused() -> None:
    with pytest.raises(InvalidDataError, match="here: image 0 and others have transparent parts, and neither white"):
        decoded(encoded(inked(4, 0)), encoded(inked(4, 255)))


GREYS = ramp().astype(np.float64)
DEEP = {
    "8 bits in 32": (ramp().astype(np.int32), GREYS / 255),
    "12 bits in 16": (ramp().astype(np.uint16) * 16, GREYS * 16 / 4095),
    "16 bits": (ramp().astype(np.uint16) * 257, GREYS / 255),
    "20 bits in 32": (ramp().astype(np.int32) * 4096, GREYS * 4096 / (2**24 - 1)),
    "floats in [0, 1]": ((GREYS / 255).astype(np.float32), GREYS / 255),
    "floats in [0, 255]": (ramp().astype(np.float32), GREYS / 255),
    "floats to 1020": (ramp().astype(np.float32) * 4, GREYS * 4 / 1023),
}


@pytest.mark.parametrize("kind", DEEP)
def test_deep_images_keep_every_level_on_the_scale_of_their_kind(tmp_path: Path, kind: str) -> None:
    stored, expected = DEEP[kind]
    write_images(tmp_path, [encoded(stored, "tiff") for _ in range(4)], "tif")
    images, _ = load_source(f"folder:{tmp_path}").train.batch()
    assert len(images.unique()) == 256
    assert images[0, 0].numpy() == pytest.approx(expected, abs=1e-6)


def test_the_scale_is_that_of_the_data_set_and_not_of_an_image(tmp_path: Path) -> None:
    dark, light = np.full((2, 2), 40, np.uint16), np.full((2, 2), 4000, np.uint16)
    images = decoded(encoded(dark), encoded(light))
    assert images.flatten(1)[:, 0].tolist() == pytest.approx([40 / 4095, 4000 / 4095])


def test_deep_images_beside_bytes_have_a_scale_of_their_own() -> None:
    images = decoded(encoded(np.full((2, 2), 1000, np.uint16)), encoded(np.full((2, 2), 51, np.uint8)))
    assert images.flatten(1)[:, 0].tolist() == pytest.approx([1000 / 1023, 0.2])


def test_a_deep_image_is_resized_with_its_depth() -> None:
    stored = np.repeat(np.array([[0], [4095]], np.uint16), 4, axis=1).repeat(2, axis=0)
    images = decoded(encoded(stored), image_size=(2, 2))
    assert images.shape == (1, 1, 2, 2) and images.dtype == torch.float32
    assert 0 <= images[0, 0, 0, 0] < 0.2 and 0.8 < images[0, 0, 1, 0] <= 1


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_floats_that_are_no_light_are_refused_by_name(value: float) -> None:
    good, bad = np.array([[0.5, 0.25]], np.float32), np.array([[0.5, value]], np.float32)
    with pytest.raises(InvalidDataError, match=r"here: image 1 has pixels from .*; expected numbers from 0"):
        decoded(encoded(good, "tiff"), encoded(bad, "tiff"))


@pytest.mark.parametrize(
    ("largest", "white"),
    [(0.0, 1), (1.0, 1), (1.5, 255), (255, 255), (256, 1023), (5000, 8191.0 * 2 + 1), (2**33, 2**33)],
)
def test_white_is_the_range_of_the_bits_that_hold_the_largest(largest: float, white: float) -> None:
    assert full_scale(largest) == white


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_camera_that_was_turned_is_turned_back(kind: str, orientation: int) -> None:
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:, :8, 0] = 255  # red on the left
    held = {3: np.rot90(upright, 2), 6: np.rot90(upright, 1), 8: np.rot90(upright, -1)}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"exif": exif}
    if kind in ("jpeg", "webp"):
        options["quality"] = 100
    image = decoded(encoded(np.ascontiguousarray(held), kind, **options))[0]
    assert image.shape == (3, 16, 24)
    assert np.abs(image[0].numpy().astype(int) - upright[:, :, 0]).mean() < 10


def deep_colours(values: NDArray[np.uint16]) -> bytes:
    """A PNG file of 16 bits a colour, which Pillow reads and does not write."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    chunks = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_the_upper_bits_of_deep_colours_are_read(caplog: pytest.LogCaptureFixture) -> None:
    values = (ramp().astype(np.uint16) * 257)[:, :, None].repeat(3, axis=2)
    with caplog.at_level(logging.INFO, "fed_unlearn.data"):
        images = decoded(deep_colours(values))
    assert images[0, 0].tolist() == ramp().tolist() and images.dtype == torch.uint8
    assert "1 images have colours of 16 bits; the upper 8 are read" in caplog.text


@pytest.mark.parametrize("bits", [8, 12, 14])
def test_deep_colours_that_use_the_lower_bits_alone_are_refused(bits: int) -> None:
    values = (ramp().astype(np.uint16) << (bits - 8))[:, :, None].repeat(3, axis=2)
    with pytest.raises(
        InvalidDataError, match=r"here: image 0 has colours of 16 bits, and no image uses the upper ones"
    ):
        decoded(deep_colours(values), deep_colours(values))


def test_images_that_show_nothing_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path, [encoded(np.full((4, 4), 7, np.uint8)) for _ in range(6)])
    with pytest.raises(InvalidDataError, match="every pixel of all 6 images is 7; expected images that show something"):
        load_source(f"folder:{tmp_path}")


@pytest.mark.parametrize("kind", ["black floats", "nothing but transparency", "one grey in colour"])
def test_other_images_that_show_nothing_are_refused(tmp_path: Path, kind: str) -> None:
    stored: NDArray[Any] = {
        "black floats": np.zeros((4, 4), np.float32),
        "nothing but transparency": np.zeros((4, 4, 4), np.uint8),
        "one grey in colour": np.full((4, 4, 3), 9, np.uint8),
    }[kind]
    write_images(tmp_path, [encoded(stored, "tiff") for _ in range(6)], "tif")
    with pytest.raises(InvalidDataError, match="every pixel of all 6 images is"):
        load_source(f"folder:{tmp_path}")


def test_constant_images_that_differ_are_read(tmp_path: Path) -> None:
    write_images(tmp_path, [encoded(np.full((4, 4), index, np.uint8)) for index in range(6)])
    assert len(load_source(f"folder:{tmp_path}").train) == 4


def test_images_of_bytes_are_read_as_before(tmp_path: Path) -> None:
    source = load_source(f"folder:{write_classes(tmp_path)}")
    assert source.train.images.dtype == torch.uint8
    position = source.train.ids.index("dog/1.png")
    assert np.array_equal(source.train.images[position, 0].numpy(), ramp(21, 4, 4))
