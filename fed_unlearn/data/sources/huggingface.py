"""Hugging Face data sets, by name or from a local folder that ``datasets`` reads."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from fed_unlearn.data.clients import ImageSource
from fed_unlearn.data.partitions import quiet_datasets
from fed_unlearn.data.sources.base import Source, register
from fed_unlearn.data.sources.columns import Columns, label_column
from fed_unlearn.data.sources.decoding import Encoded, decoded_source
from fed_unlearn.data.sources.splits import train_and_held_out
from fed_unlearn.errors import InvalidDataError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

logger = logging.getLogger("fed_unlearn.data")

IMAGE_COLUMNS = ("image", "img", "images", "picture", "photo", "pixel_values")


@register("hf")
@dataclass(frozen=True, kw_only=True)
class HuggingFace(Source):
    """A data set of the Hugging Face hub, or a local folder that ``datasets`` reads; ``NAME@CONFIG`` names a variant.

    The parts are the splits for training and for tests (or validation; or a share of the only split), by the usual
    names in any case. Paths of images are relative to the local folder.
    """

    place_is: ClassVar[str] = "NAME-OR-PATH"
    has_label_columns: ClassVar[bool] = True

    def load(self) -> ImageSource:
        """Find the columns of images, labels and ids, and decode the images.

        The image column is found by its type, else by common names; the label column likewise, or it is that which
        ``label`` names. A column such as ``id`` gives the sample ids where its values are all different.
        """
        where, path = self.where, (self.root or Path()) / Path(self.place).expanduser()
        splits = _load(self.place, path, where)
        train_name, held_out = train_and_held_out(list(splits), where)
        first = splits[train_name]
        image_column = _image_column(first, where)
        columns = Columns(image_column, label_column(first, self.label, image_column, where), where, path)
        train = columns.read(first, train_name, is_train=True)
        used, test = [train_name], None
        for name in held_out:
            if (test := _held_out(columns, splits[name], name)) is not None:
                used.append(name)
                break
        if unused := [name for name in splits if name not in used]:
            logger.info("%s: not used of its splits: %s", where, ", ".join(unused))
        names = getattr(first.features[columns.label], "names", None)
        return decoded_source([train] if test is None else [train, test], self, where, names)


def _load(name: str, path: Path, where: str) -> DatasetDict:
    import datasets

    plain, _, config = name.partition("@")
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


def _image_column(split: Dataset, where: str) -> str:
    features = split.features
    typed = [name for name, feature in features.items() if type(feature).__name__ == "Image"]
    named = [name for name in IMAGE_COLUMNS if name in features]
    for candidates in ([name for name in named if name in typed], typed, named):
        if candidates:
            return candidates[0]
    raise InvalidDataError(
        f"{where}: no image column among {', '.join(features)}; expected one of the type Image, or one called"
        f" {', '.join(IMAGE_COLUMNS)}"
    )


def _held_out(columns: Columns, split: Dataset, name: str) -> Encoded | None:
    """A part to test with; None where it is empty, or its labels are kept secret: benchmarks fill them with -1."""
    if columns.label in split.features and all(label == -1 for label in split[columns.label]):
        logger.warning("%s: split %r has no labels, and is not used", columns.where, name)
        return None
    return columns.read(split, name, is_train=False)
