"""A data set without its random augmentation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch.utils.data import Dataset, Subset

from fed_unlearn.errors import InvalidParameterError


def with_transform(dataset: Dataset[Any], transform: Callable[[Any], Any]) -> Dataset[Any]:
    """A data set under another transform. The one that is given stays as it is.

    Parameters
    ----------
    dataset : Dataset
        A ``datasets.Dataset``, or one of torchvision's, or a ``Subset`` of it.
    transform : callable
        The new transform, called as the data set's own: with a batch for ``datasets.Dataset``, with an image for
        torchvision.

    Raises
    ------
    InvalidParameterError
        If the data set has no transform that could be replaced.
    """
    if isinstance(dataset, Subset):
        return Subset(with_transform(dataset.dataset, transform), dataset.indices)
    replaced = getattr(dataset, "with_transform", None)
    if replaced is not None:
        made: Dataset[Any] = replaced(transform)
        return made
    if not hasattr(dataset, "transform"):
        raise InvalidParameterError(
            f"evaluate_transform was given for {type(dataset).__name__}, which has no transform; expected a"
            " datasets.Dataset or a data set of torchvision"
        )
    plain: Any = copy.copy(dataset)
    plain.transform = transform
    if getattr(plain, "transforms", None) is not None:  # torchvision's pair of transforms, which it applies
        plain.transforms = type(plain.transforms)(transform, plain.target_transform)
    changed: Dataset[Any] = plain
    return changed
