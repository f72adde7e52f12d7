"""Hugging Face data sets, by name or from a local folder that ``datasets`` reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from fed_unlearn.data.clients import ImageSource
from fed_unlearn.data.partitions import quiet_datasets
from fed_unlearn.data.sources.base import Source, register, split_ids
from fed_unlearn.data.sources.decoding import Encoded, decoded_source
from fed_unlearn.errors import InvalidDataError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

IMAGE_COLUMNS = ("image", "img", "images", "picture", "photo", "pixel_values")
LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "target", "category", "y")
ID_COLUMNS = ("id", "image_id", "sample_id", "uid", "uuid", "_id")
TEST_SPLITS = ("test", "validation", "valid", "val", "dev", "eval")


@register("hf")
@dataclass(frozen=True, kw_only=True)
class HuggingFace(Source):
    """A data set of the Hugging Face hub, or a local folder that ``datasets`` reads; ``NAME@CONFIG`` names a variant.

    The parts are the splits ``train`` and ``test`` (or ``validation``; or a share of the only split).
    """

    place_is: ClassVar[str] = "NAME-OR-PATH"

    def load(self) -> ImageSource:
        """Find the columns of images, labels and ids, and decode the images.

        The image column is found by its type, else by common names; the label column likewise. A column such as
        ``id`` gives the sample ids where its values are all different.
        """
        where = self.where
        splits = _load(self.place, self.root, where)
        train_name = "train" if "train" in splits else next(iter(splits))
        first = splits[train_name]
        image_column = _column(first, where, "image", IMAGE_COLUMNS, ("Image",))
        label_column = _column(first, where, "label", LABEL_COLUMNS, ("ClassLabel",))
        train = _read(first, train_name, True, image_column, label_column, where)
        names = getattr(first.features[label_column], "names", None)
        test = _test_part(splits, train_name, image_column, label_column, where)
        return decoded_source([train] if test is None else [train, test], self, where, names)


def _load(name: str, root: Path | None, where: str) -> DatasetDict:
    import datasets

    plain, _, config = name.partition("@")
    path = (root or Path()) / Path(name).expanduser()
    if not path.exists() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise InvalidDataError(f"{where}: no such folder; expected a folder of parquet files, or a data set's name")
    try:
        with quiet_datasets():
            where_from = (str(path), None) if path.exists() else (plain, config or None)
            loaded = datasets.load_dataset(*where_from)
    except Exception as error:  # datasets raises errors of many unrelated classes, its own and others'
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        absent = "" if path.exists() else f", and there is no folder {path}"
        raise InvalidDataError(
            f"{where}: cannot be loaded{absent} ({reason}); expected the name of a data set on the Hugging Face hub, or"
            " a local folder of parquet files with a column of images and one of labels"
        ) from error
    return loaded


def _column(split: Dataset, where: str, what: str, names: Sequence[str], types: Sequence[str]) -> str:
    features = split.features
    typed = [name for name, feature in features.items() if type(feature).__name__ in types]
    named = [name for name in names if name in features]
    for candidates in ([name for name in named if name in typed], typed, named):
        if candidates:
            return candidates[0]
    raise InvalidDataError(
        f"{where}: no {what} column among {', '.join(features)}; expected one of the type {types[0]},"
        f" or one called {', '.join(names)}"
    )


def _read(split: Dataset, name: str, is_train: bool, image_column: str, label_column: str, where: str) -> Encoded:
    import datasets

    for column in (image_column, label_column):
        if column not in split.features:
            raise InvalidDataError(f"{where}: split {name!r} has no column {column!r}, which the training split has")
    if type(split.features[image_column]).__name__ == "Image":
        split = split.cast_column(image_column, datasets.Image(decode=False))
    table = split.with_format("arrow")
    encoded: list[bytes] = []
    for batch in table.select_columns([image_column]).iter(batch_size=4096):
        encoded += [_bytes(value, where, image_column) for value in batch[image_column].to_pylist()]
    labels = split.with_format(None).select_columns([label_column])[:][label_column]
    if any(label is None or isinstance(label, list | dict) for label in labels):
        raise InvalidDataError(f"{where}: column {label_column!r} is not one label an image")
    return Encoded(encoded, labels, _ids(split, "train" if is_train else name))


def _bytes(value: object, where: str, column: str) -> bytes:
    if isinstance(value, dict):
        content, path = value.get("bytes"), value.get("path")
        if content is None and path:
            return Path(path).read_bytes()
        value = content
    if not isinstance(value, bytes):
        raise InvalidDataError(f"{where}: column {column!r} holds {type(value).__name__}; expected encoded images")
    return value


def _ids(split: Dataset, name: str) -> list[str]:
    for column in ID_COLUMNS:
        if column in split.features:
            values = [str(value) for value in split.select_columns([column])[:][column]]
            if len(set(values)) == len(values):
                return values
    return split_ids(name, split.num_rows)


def _test_part(
    splits: DatasetDict, train_name: str, image_column: str, label_column: str, where: str
) -> Encoded | None:
    for name in TEST_SPLITS:
        if name in splits and name != train_name:
            part = _read(splits[name], name, False, image_column, label_column, where)
            # Benchmarks that keep their test labels secret fill them with -1.
            if part.labels and not all(label == -1 for label in part.labels):
                return part
    return None
