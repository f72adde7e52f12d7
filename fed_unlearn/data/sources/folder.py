"""A folder of images, one sub-folder a class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from fed_unlearn.data.clients import ImageSource
from fed_unlearn.data.sources.base import Source, register
from fed_unlearn.data.sources.decoding import Encoded, decoded_source
from fed_unlearn.errors import InvalidDataError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
EXPECTED = "expected one sub-folder a class with images in it, directly or under 'train' and 'test'"


@register("folder")
@dataclass(frozen=True, kw_only=True)
class Folder(Source):
    """Images below a folder, one sub-folder a class.

    ``PATH/train`` and ``PATH/test`` are the parts where both exist; else the test part is split off by the hash of
    the ids. Classes are sorted by name, or by number where all are numbers.
    """

    place_is: ClassVar[str] = "PATH"

    def load(self) -> ImageSource:
        """Decode every image; ids are paths relative to the folder, with forward slashes."""
        path = (self.root or Path()) / Path(self.place).expanduser()
        if not path.is_dir():
            raise InvalidDataError(f"folder:{path}: no such folder; {EXPECTED}")
        divided = (path / "train").is_dir() and (path / "test").is_dir()
        parts = [_files_by_class(path / name) for name in ("train", "test")] if divided else [_files_by_class(path)]
        if not all(parts):
            empty = path / ("test" if parts[0] else "train") if divided else path
            raise InvalidDataError(f"folder:{empty}: no images; {EXPECTED}")
        encoded = [
            Encoded(
                [file.read_bytes() for _, file in part],
                [name for name, _ in part],
                [file.relative_to(path).as_posix() for _, file in part],
            )
            for part in parts
        ]
        return decoded_source(encoded, self, f"folder:{path}")


def _files_by_class(path: Path) -> list[tuple[str, Path]]:
    found = []
    for folder in sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith(".")):
        for file in sorted(folder.rglob("*")):
            if file.suffix.lower() in SUFFIXES and not file.name.startswith("."):
                found.append((folder.name, file))
    return found
