"""One function from a data set's name to its images."""

from __future__ import annotations

from pathlib import Path

from fed_unlearn.data.sources.base import ImageSource
from fed_unlearn.errors import InvalidDataError

ACCEPTED_FORMS = "'digits', 'torchvision:NAME', 'folder:PATH' or 'hf:NAME-OR-PATH'"


def load_source(
    dataset: str,
    *,
    root: Path | None = None,
    download: bool = False,
    image_size: tuple[int, int] | None = None,
    test_fraction: float = 0.2,
) -> ImageSource:
    """Load a labelled image data set into memory.

    Parameters
    ----------
    dataset : str
        ``digits`` (scikit-learn's handwritten digits), ``torchvision:NAME`` (a classification data set by class
        name), ``folder:PATH`` (one sub-folder a class, with or without ``train`` and ``test`` above them), or
        ``hf:NAME-OR-PATH`` (a Hugging Face data set, or a local folder that ``datasets`` reads;
        ``NAME@CONFIG`` chooses a configuration).
    root : Path, optional
        For torchvision the folder that holds its data sets; relative paths in ``dataset`` start there too.
    download : bool, default False
        Let torchvision download what is missing.
    image_size : (height, width), optional
        Resize to this; needed where images differ in size.
    test_fraction : float in (0, 1), default 0.2
        Share of every class that becomes test data where the source has no test part. Which samples these are
        follows from their ids alone.

    Returns
    -------
    ImageSource

    Raises
    ------
    InvalidDataError
        If the data set is unknown, missing or not made of labelled images.
    """
    kind, separator, name = dataset.partition(":")
    if image_size is not None and (len(image_size) != 2 or min(image_size) < 1):
        raise InvalidDataError(f"image_size: {image_size} was given; expected (height, width) of at least 1")
    if dataset == "digits":
        from fed_unlearn.data.sources.digits import load_digits

        return load_digits(image_size, test_fraction)
    if not separator or not name:
        raise InvalidDataError(f"data set {dataset!r} is unknown; expected {ACCEPTED_FORMS}")
    if kind == "torchvision":
        from fed_unlearn.data.sources.vision import load_torchvision

        return load_torchvision(name, root, download, image_size, test_fraction)
    if kind == "folder":
        from fed_unlearn.data.sources.folder import load_folder

        return load_folder((root or Path()) / Path(name).expanduser(), image_size, test_fraction)
    if kind == "hf":
        from fed_unlearn.data.sources.huggingface import load_huggingface

        return load_huggingface(name, root, image_size, test_fraction)
    raise InvalidDataError(f"data set {dataset!r} is unknown; expected {ACCEPTED_FORMS}")
