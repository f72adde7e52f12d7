"""The contract of a data source, the registry of sources, and the parts that sources share."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from fed_unlearn.data.clients import ImageSource
from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import InvalidDataError
from fed_unlearn.registry import Registry

Part = tuple[Tensor, Tensor, Sequence[str]]
"""Images of shape (n, channels, height, width), uint8, or float32 in [0, 1]; labels of shape (n,), int64; and ids."""

_MOST_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """Where labelled images come from; a data set is named ``NAME`` or ``NAME:PLACE``.

    A subclass is registered by :func:`register` and implements :meth:`load`.

    Parameters
    ----------
    place : str
        What stands after the colon; empty where there is no colon.
    root, download, image_size, test_fraction, label
        Settings of the source, as in :func:`~fed_unlearn.data.sources.load_source`.

    Attributes
    ----------
    name : str
        Name that the source is registered by.
    place_is : str
        What ``place`` is, such as ``"PATH"``, for listings and messages; empty if the source takes none.
    has_label_columns : bool
        Whether its samples may have several labels, of which ``label`` names one.
    """

    name: ClassVar[str]
    place_is: ClassVar[str] = ""
    has_label_columns: ClassVar[bool] = False

    place: str = ""
    root: Path | None = None
    download: bool = False
    image_size: tuple[int, int] | None = None
    test_fraction: float = 0.2
    label: str | None = None

    @property
    def where(self) -> str:
        """The data set as its user named it, for messages."""
        return f"{self.name}:{self.place}" if self.place else self.name

    @classmethod
    def form(cls) -> str:
        """How a data set of this source is named, such as ``folder:PATH``."""
        return f"{cls.name}:{cls.place_is}" if cls.place_is else cls.name

    @abstractmethod
    def load(self) -> ImageSource:
        """Load the images into memory; :func:`make_source` checks them and puts them together.

        Raises
        ------
        InvalidDataError
            If they are missing or no labelled images.
        """


SOURCES: Registry[Source] = Registry(
    "data source",
    contract="fed_unlearn.data.sources.base:Source",
    group="fed_unlearn.sources",
    built_in=(
        "fed_unlearn.data.sources.digits",
        "fed_unlearn.data.sources.vision",
        "fed_unlearn.data.sources.folder",
        "fed_unlearn.data.sources.synthetic",
        "fed_unlearn.data.sources.huggingface",
    ),
)
register = SOURCES.register


def fingerprint_of(contents: Iterable[bytes | Tensor], labels: Sequence[Tensor], ids: Sequence[Sequence[str]]) -> str:
    """SHA-256 over images (encoded bytes, or pixels), labels and ids; lengths are part of what is hashed."""
    digest = hashlib.sha256()
    for content in contents:
        if isinstance(content, Tensor):
            digest.update(f"{content.dtype}{tuple(content.shape)}".encode())
            digest.update(content.contiguous().numpy().data)
        else:
            digest.update(len(content).to_bytes(8, "big"))
            digest.update(content)
    for part in labels:
        digest.update(f"labels{len(part)}:".encode())
        digest.update(part.contiguous().numpy().data)
    for names in ids:
        digest.update(f"ids{len(names)}:".encode())
        digest.update("\x1f".join(names).encode())
    return digest.hexdigest()


def stable_split(ids: Sequence[str], labels: Tensor, test_fraction: float) -> tuple[Tensor, Tensor]:
    """Split samples by the hash of their ids, class by class.

    The same id falls on the same side on every machine, and adding samples moves few of the others.

    Parameters
    ----------
    ids : sequence of str
    labels : Tensor of shape (n,), int64
    test_fraction : float in (0, 1)
        Share of the samples of every class that become test data. A class with more than one sample has at least one on
        each side.

    Returns
    -------
    (train, test) : Tensors of int64 positions, ascending
    """
    if not 0 < test_fraction < 1:
        raise InvalidDataError(f"test_fraction: {test_fraction} was given; expected a number between 0 and 1")
    hashes = [hashlib.sha256(sample_id.encode()).digest() for sample_id in ids]
    held_out: list[int] = []
    for label in torch.unique(labels).tolist():
        members = sorted((labels == label).nonzero().flatten().tolist(), key=hashes.__getitem__)
        wanted = min(max(round(len(members) * test_fraction), 1), len(members) - 1)
        held_out += members[:wanted]
    mask = torch.zeros(len(ids), dtype=torch.bool)
    mask[held_out] = True
    return (~mask).nonzero().flatten(), mask.nonzero().flatten()


def split_ids(name: str, count: int) -> list[str]:
    """Ids of samples that their owner gave none: the index, prefixed by the split's name outside training."""
    return [str(index) if name == "train" else f"{name}/{index}" for index in range(count)]


def contiguous_labels(*parts: Sequence[object]) -> tuple[list[Tensor], tuple[str, ...]]:
    """Labels of any sortable kind as 0 to k - 1, in sorted order over all parts, with the old labels as names.

    Whole numbers that are floats, as tables with gaps have them, are named like integers: ``"1"``, not ``"1.0"``.
    """
    parts = tuple([_as_whole(value) for value in part] for part in parts)
    values = sorted({value for part in parts for value in part}, key=_label_order)
    positions = {value: position for position, value in enumerate(values)}
    encoded = [torch.tensor([positions[value] for value in part], dtype=torch.int64) for part in parts]
    return encoded, tuple(str(value) for value in values)


def _as_whole(label: object) -> object:
    return int(label) if isinstance(label, float) and label.is_integer() else label


def _label_order(label: object) -> tuple[int, int | float, str]:
    if isinstance(label, int | float):
        return (0, label, "")
    text = str(label)
    return (0, int(text), text) if text.isdecimal() else (1, 0, text)


def resized(images: Tensor, image_size: tuple[int, int] | None) -> Tensor:
    """Images (n, channels, height, width) at ``image_size`` (height, width), bilinear with antialiasing."""
    if image_size is None or tuple(images.shape[2:]) == tuple(image_size):
        return images
    parts = [
        functional.interpolate(part, size=tuple(image_size), mode="bilinear", antialias=True, align_corners=False)
        for part in torch.split(images, 4096)
    ]
    return torch.cat(parts)


def split_part(part: Part, test_fraction: float) -> tuple[Part, Part]:
    """The training and the test part of a data set that has only one, by :func:`stable_split`."""
    images, labels, ids = part
    train, test = (
        (images[kept], labels[kept], [ids[index] for index in kept.tolist()])
        for kept in stable_split(ids, labels, test_fraction)
    )
    return train, test


def make_source(
    train: Part,
    test: Part,
    class_names: Sequence[str],
    where: str,
    *,
    image_size: tuple[int, int] | None = None,
    contents: Iterable[bytes] | None = None,
) -> ImageSource:
    """Put the parts ``(images, labels, ids)`` together, once they are known to be usable.

    Parameters
    ----------
    train, test : (Tensor, Tensor, sequence of str)
    class_names : sequence of str
    where : str
        What to call the data set in an error.
    image_size : (height, width), optional
        Images are resized to this.
    contents : iterable of bytes, optional
        What the images were decoded from: the fingerprint is of these, else of the images as they are given.

    Raises
    ------
    InvalidDataError
        If a part is empty, has a label without a class, or the parts' images differ in shape. If there is one class
        only, a class of the test part is not in the training part, or all pixels of all images are equal.
    """
    for name, (images, labels, _) in (("training", train), ("test", test)):
        if len(images) == 0:
            raise InvalidDataError(f"{where}: the {name} part has no image; at least one was expected")
        if int(labels.min()) < 0 or int(labels.max()) >= len(class_names):
            raise InvalidDataError(
                f"{where}: labels {int(labels.min())} to {int(labels.max())} in the {name} part;"
                f" expected 0 to {len(class_names) - 1}"
            )
    _check_classes(train[1], test[1], class_names, where)
    given = (train[0], test[0])
    fingerprint = fingerprint_of(given if contents is None else contents, (train[1], test[1]), (train[2], test[2]))
    first, second = (resized(images, image_size) for images in given)
    if first.shape[1:] != second.shape[1:]:
        raise InvalidDataError(
            f"{where}: training images of shape {tuple(first.shape[1:])}, test images of shape"
            f" {tuple(second.shape[1:])}; give an image size (height, width) to bring them to one"
        )
    low, high = (min(float(part.min()) for part in (first, second)), max(float(part.max()) for part in (first, second)))
    if low == high:
        raise InvalidDataError(
            f"{where}: every pixel of all {len(first) + len(second)} images is {low:g}; expected images that show"
            " something: look at how they were written"
        )
    return ImageSource(ImageSet(first, *train[1:]), ImageSet(second, *test[1:]), tuple(class_names), fingerprint)


def _check_classes(train: Tensor, test: Tensor, class_names: Sequence[str], where: str) -> None:
    """Refuse data of one class, and test classes that nobody learns."""
    learned, tested = (set(torch.unique(labels).tolist()) for labels in (train, test))
    if len(learned) == 1:
        raise InvalidDataError(
            f"{where}: all {len(train)} training images are of one class, {_named(learned, class_names)}; expected at"
            " least two classes"
        )
    if unknown := tested - learned:
        raise InvalidDataError(
            f"{where}: the test part has classes that the training part lacks: {_named(unknown, class_names)}; the"
            f" training part has {_named(learned, class_names)}; expected every class of the test part there"
        )


def _named(classes: set[int], class_names: Sequence[str]) -> str:
    shown = ", ".join(repr(class_names[label]) for label in sorted(classes)[:_MOST_NAMED])
    return shown if len(classes) <= _MOST_NAMED else f"{shown} and {len(classes) - _MOST_NAMED} more"
