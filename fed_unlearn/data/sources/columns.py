"""The columns of a table of images: which one holds the labels, and what stands in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fed_unlearn.data.sources.base import split_ids
from fed_unlearn.data.sources.decoding import Encoded
from fed_unlearn.errors import InvalidDataError
from fed_unlearn.text import quoted

if TYPE_CHECKING:
    from datasets import Dataset

LABEL_COLUMNS = (
    *("label", "labels", "fine_label", "coarse_label", "class", "target", "category", "y"),
    *("identity", "class_label", "class_id", "label_id"),
)
ID_COLUMNS = ("id", "image_id", "sample_id", "uid", "uuid", "_id")


def label_column(split: Dataset, asked: str | None, image_column: str, where: str) -> str:
    """Which column holds the labels: the one that is asked for, or the only one that looks like labels.

    Columns that look like labels are of the type ClassLabel, or have a common name.

    Parameters
    ----------
    split : Dataset
    asked : str, optional
        The name of the column.
    image_column : str
        The column of images, which is none of labels.
    where : str
        What to call the data set in an error.

    Raises
    ------
    InvalidDataError
        If there is no such column, or several look like labels and none is asked for.
    """
    others = [str(name) for name in split.features if name != image_column]
    if asked is not None:
        if asked not in others:
            raise InvalidDataError(
                f"{where}: no label column {quoted(asked)}; expected one of {', '.join(map(repr, others)) or 'none'}"
            )
        return asked
    typed = [name for name in others if type(split.features[name]).__name__ == "ClassLabel"]
    alike = [name for name in others if name in typed or name.lower() in LABEL_COLUMNS]
    if len(alike) == 1:
        return alike[0]
    if alike:
        raise InvalidDataError(
            f"{where}: {len(alike)} columns may hold the labels: {', '.join(map(repr, alike))}; name one, as in"
            f' data.label = "{alike[-1]}"'
        )
    raise InvalidDataError(
        f"{where}: no label column among {', '.join(split.features)}; expected one of the type ClassLabel or called"
        f" {', '.join(LABEL_COLUMNS)}, or the name of another one as data.label"
    )


@dataclass(frozen=True)
class Columns:
    """The columns to read from the splits of a table.

    Attributes
    ----------
    image, label : str
        Names of the columns of images and of labels.
    where : str
        What to call the data set in an error.
    folder : Path
        Folder where relative paths of images start.
    """

    image: str
    label: str
    where: str
    folder: Path

    def read(self, split: Dataset, name: str, *, is_train: bool) -> Encoded:
        """The encoded images, the labels and the ids of a split.

        Raises
        ------
        InvalidDataError
            If a column or a label is missing, a label is a fraction, or an image cannot be read.
        """
        import datasets

        for column in (self.image, self.label):
            if column not in split.features:
                raise InvalidDataError(
                    f"{self.where}: split {name!r} has no column {column!r}, which the training split has"
                )
        if type(split.features[self.image]).__name__ == "Image":
            split = split.cast_column(self.image, datasets.Image(decode=False))
        encoded: list[bytes] = []
        for batch in split.with_format("arrow").select_columns([self.image]).iter(batch_size=4096):
            encoded += [self._bytes(value) for value in batch[self.image].to_pylist()]
        labels = split.with_format(None).select_columns([self.label])[:][self.label]
        self._check_labels(labels, name, is_class=type(split.features[self.label]).__name__ == "ClassLabel")
        return Encoded(encoded, labels, _ids(split, "train" if is_train else name))

    def _check_labels(self, labels: Sequence[object], name: str, *, is_class: bool) -> None:
        missing = [row for row, label in enumerate(labels) if _is_missing(label, is_class=is_class)]
        if missing:
            raise InvalidDataError(
                f"{self.where}: {len(missing)} of {len(labels)} samples of split {name!r} have no label in column"
                f" {self.label!r}, the first in row {missing[0]} ({labels[missing[0]]!r}); expected a label for each:"
                " leave these samples out, or label them"
            )
        for row, label in enumerate(labels):
            if isinstance(label, list | tuple | dict):
                raise InvalidDataError(f"{self.where}: column {self.label!r} is not one label an image (row {row})")
            if isinstance(label, float) and not label.is_integer():
                raise InvalidDataError(
                    f"{self.where}: column {self.label!r} holds {label!r} in row {row}; expected the name or the whole"
                    " number of a class"
                )

    def _bytes(self, value: object) -> bytes:
        content, place = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, value)
        if not isinstance(content, bytes) and isinstance(place, str) and place:
            return self._content(place)
        if not isinstance(content, bytes):
            raise InvalidDataError(
                f"{self.where}: column {self.image!r} holds {type(value).__name__}; expected encoded images, or paths"
            )
        return content

    def _content(self, place: str) -> bytes:
        try:
            return (self.folder / Path(place).expanduser()).read_bytes()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "a path that no file can have"
            raise InvalidDataError(
                f"{self.where}: image {quoted(place)} cannot be read ({reason}); paths are relative to {self.folder}"
            ) from error


def _is_missing(label: object, *, is_class: bool) -> bool:
    if isinstance(label, float):
        return label != label
    if isinstance(label, str):
        return not label.strip()
    return label is None or (is_class and label == -1)


def _ids(split: Dataset, name: str) -> list[str]:
    for column in ID_COLUMNS:
        if column in split.features:
            values = [str(value) for value in split.select_columns([column])[:][column]]
            if len(set(values)) == len(values):
                return values
    return split_ids(name, split.num_rows)
