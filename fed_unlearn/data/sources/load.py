"""One function from a data set's name to its images."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path

from fed_unlearn.data.clients import ImageSource
from fed_unlearn.data.sources.base import SOURCES
from fed_unlearn.errors import InvalidDataError, InvalidParameterError
from fed_unlearn.registry import imported_callable
from fed_unlearn.text import quoted


def load_source(
    dataset: str,
    *,
    root: Path | None = None,
    download: bool = False,
    image_size: tuple[int, int] | None = None,
    test_fraction: float = 0.2,
    label: str | None = None,
) -> ImageSource:
    """Load a labelled image data set into memory.

    Parameters
    ----------
    dataset : str
        ``digits`` (scikit-learn's handwritten digits), ``torchvision:NAME`` (a classification data set by class
        name), ``folder:PATH`` (one sub-folder a class, with or without folders of splits above them), or
        ``hf:NAME-OR-PATH`` (a Hugging Face data set, or a local folder that ``datasets`` reads;
        ``NAME@CONFIG`` chooses a configuration); ``synthetic:COUNT`` (so many made images, to measure with); a
        source of another package, by its name; or ``package.module:callable``, a callable that takes ``root``,
        ``download``, ``image_size`` and ``test_fraction`` by keyword and returns an :class:`ImageSource`.
    root : Path, optional
        Folder that holds torchvision's data sets. Relative paths in ``dataset`` start there too.
    download : bool, default False
        Let torchvision download what is missing.
    image_size : (height, width), optional
        Resize to this; needed where images differ in size.
    test_fraction : float in (0, 1), default 0.2
        Share of every class that becomes test data where the source has no test part. Which samples these are
        follows from their ids alone.
    label : str, optional
        The column of a Hugging Face data set that holds the labels; needed where several may. A callable gets it as
        ``label``, if it is given.

    Returns
    -------
    ImageSource

    Raises
    ------
    InvalidDataError
        If the data set is unknown, missing or not made of labelled images.
    InvalidParameterError
        If two distributions register one name.
    """
    if image_size is not None and (len(image_size) != 2 or min(image_size) < 1):
        raise InvalidDataError(f"image_size: {image_size} was given; expected (height, width) of at least 1")
    name, _, place = dataset.partition(":")
    known = SOURCES.available()
    options: dict[str, object] = {
        "root": root,
        "download": download,
        "image_size": image_size,
        "test_fraction": test_fraction,
    }
    if label is not None:
        options["label"] = label
    if name in known and bool(place) == bool(known[name].place_is):
        if label is not None and not known[name].has_label_columns:
            raise InvalidDataError(
                f"data set {quoted(dataset)}: label {quoted(label)} was given, and its samples have one label each;"
                " leave it out"
            )
        return SOURCES.create(name, place=place, **options).load()
    if name in SOURCES.unavailable():
        raise InvalidDataError(f"data set {quoted(dataset)}: {SOURCES.unavailable()[name]}")
    problem = ""
    if place and name not in known:
        try:
            found = imported_callable(dataset)
        except InvalidParameterError as error:
            problem = f" ({error})"
        else:
            return _loaded_by(found, dataset, options)
    forms = ", ".join(repr(source.form()) for source in known.values())
    raise InvalidDataError(
        f"data set {quoted(dataset)} is unknown{problem}; expected {forms} or 'package.module:callable'"
    )


def _loaded_by(found: Callable[..., object], dataset: str, options: Mapping[str, object]) -> ImageSource:
    try:
        inspect.signature(found).bind(**options)
    except (TypeError, ValueError) as error:
        keywords = ", ".join(options)
        raise InvalidDataError(
            f"data set {quoted(dataset)}: {error}; expected a callable that takes {keywords}"
        ) from error
    source = found(**options)
    if not isinstance(source, ImageSource):
        raise InvalidDataError(f"data set {dataset!r}: a {type(source).__name__} was given; expected an ImageSource")
    return source
