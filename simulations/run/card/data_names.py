"""What a model card calls the data that a model was trained on."""

from __future__ import annotations

import re
from pathlib import Path

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_NAMED_WHOLE = ("torchvision", "synthetic")


def data_name(dataset: str) -> str:
    """What a card calls the data of a scenario: without the place where they lie on this machine.

    Parameters
    ----------
    dataset : str
        ``data.dataset`` of the scenario, such as ``digits`` or ``folder:/home/me/faces``.

    Examples
    --------
    >>> data_name("torchvision:CIFAR10"), data_name("folder:/home/me/faces")
    ('torchvision:CIFAR10', 'a folder of images')
    """
    kind, _, place = dataset.partition(":")
    if kind == "folder":
        return "a folder of images"
    if kind == "hf":
        return hub_id(dataset) or "a local data set"
    return dataset if kind in _NAMED_WHOLE and place.isalnum() else kind


def hub_id(dataset: str) -> str | None:
    """The id of a data set on the Hugging Face Hub; None for data from elsewhere."""
    kind, _, place = dataset.partition(":")
    return place if kind == "hf" and _HUB_ID.fullmatch(place) and not Path(place).exists() else None
