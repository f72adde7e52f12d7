"""A folder of images, one sub-folder a class."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from fed_unlearn.data.clients import ImageSource
from fed_unlearn.data.sources.base import Source, register
from fed_unlearn.data.sources.decoding import Encoded, decoded_source
from fed_unlearn.data.sources.splits import role_of, train_and_held_out
from fed_unlearn.errors import InvalidDataError

logger = logging.getLogger("fed_unlearn.data")

SUFFIXES = frozenset(
    {".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
EXPECTED = "expected one sub-folder a class with images in it, directly or under 'train' and 'test'"
_NO_CLASSES = frozenset({"__MACOSX"})
_MOST_NAMED = 5

Files = list[tuple[str, Path]]
"""The name of the class and the file of each image."""


@register("folder")
@dataclass(frozen=True, kw_only=True)
class Folder(Source):
    """Images below a folder, one sub-folder a class.

    Sub-folders that are called like splits are the parts, in any case: ``train`` or ``training``, ``test``, ``testing``
    or ``eval``, ``val``, ``valid`` or ``validation``. The test part is that for tests, else that for validation; where
    there is none, it is split off by the hash of the ids. Classes are sorted by name, or by number where all are
    numbers.
    """

    place_is: ClassVar[str] = "PATH"

    def load(self) -> ImageSource:
        """Decode every image; ids are paths relative to the folder, with forward slashes."""
        path = (self.root or Path()) / Path(self.place).expanduser()
        if not path.is_dir():
            raise InvalidDataError(f"folder:{path}: no such folder; {EXPECTED}")
        parts = [_files_by_class(part) for part in _parts_of(path)]
        encoded = [
            Encoded(
                [file.read_bytes() for _, file in part],
                [name for name, _ in part],
                [file.relative_to(path).as_posix() for _, file in part],
            )
            for part in parts
        ]
        return decoded_source(encoded, self, f"folder:{path}")


def _parts_of(path: Path) -> list[Path]:
    """The folders that hold the classes: of training and of test images, or the only one."""
    folders, where = _folders(path), f"folder:{path}"
    called = [folder.name for folder in folders if role_of(folder.name) is not None]
    if not called:
        return [path]
    others = [folder.name for folder in folders if folder.name not in called]
    direct = [folder.name for folder in folders if folder.name in called and _images(folder, deep=False)]
    if others or direct:
        problem = f"beside {_listed(others)}" if others else f"and {_listed(direct)} has images directly in it"
        raise InvalidDataError(
            f"{where}: {_listed(called)} {'are' if len(called) > 1 else 'is'} called like a split, {problem}; expected"
            " folders of splits alone with one sub-folder a class in each, or classes alone: put the classes under"
            " 'train', where they may have any name"
        )
    train, held_out = train_and_held_out(called, where)
    for name in held_out[1:]:
        logger.warning("%s: %r is not used: %r is the test part", where, name, held_out[0])
    return [path / name for name in (train, *held_out[:1])]


def _files_by_class(path: Path) -> Files:
    """The images below a folder of classes.

    Raises
    ------
    InvalidDataError
        If there is none, a class has none, or all of them lie a folder deeper.
    """
    where, folders = f"folder:{path}", _folders(path)
    found = {folder: _images(folder, deep=True) for folder in folders}
    if not any(found.values()):
        raise InvalidDataError(f"{where}: no images; {EXPECTED}")
    if not any(_images(folder, deep=False) for folder in folders):
        deeper = next(files[0] for files in found.values() if files).relative_to(path).as_posix()
        advice = f"; give {path / folders[0].name}" if len(folders) == 1 else ""
        raise InvalidDataError(
            f"{where}: read {_listed([folder.name for folder in folders])} as classes, and their images lie a folder"
            f" deeper, as {deeper}; {EXPECTED}{advice}"
        )
    if empty := [folder.name for folder, files in found.items() if not files]:
        raise InvalidDataError(
            f"{where}: no image of {', '.join(sorted(SUFFIXES))} in {_listed(empty)}; every folder there is read as a"
            " class: remove it, or convert what is in it"
        )
    if beside := _images(path, deep=False):
        logger.warning("%s: %d images beside the folders of classes are not read", where, len(beside))
    return [(folder.name, file) for folder, files in found.items() for file in files]


def _folders(path: Path) -> list[Path]:
    return sorted(
        child
        for child in path.iterdir()
        if child.is_dir() and not child.name.startswith(".") and child.name not in _NO_CLASSES
    )


def _images(folder: Path, *, deep: bool) -> list[Path]:
    files = folder.rglob("*") if deep else folder.iterdir()
    return sorted(
        file for file in files if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
    )


def _listed(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:_MOST_NAMED]))
    return shown if len(names) <= _MOST_NAMED else f"{shown} and {len(names) - _MOST_NAMED} more"
