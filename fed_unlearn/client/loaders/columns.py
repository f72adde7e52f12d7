"""What an app's own data set has beside its items: ids, labels, names of classes."""

from __future__ import annotations

import logging
import operator
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Subset

from fed_unlearn.class_names import class_names_problem
from fed_unlearn.errors import InvalidDataError

logger = logging.getLogger("fed_unlearn.client")


def ids_of(dataset: Any) -> tuple[str, ...] | None:
    """The ``ids`` of a data set, or of what it is a ``Subset`` of, as text; None if it has none."""
    ids = getattr(dataset, "ids", None)
    if ids is None and isinstance(dataset, Subset):
        whole = ids_of(dataset.dataset)
        return None if whole is None else tuple(whole[index] for index in dataset.indices)
    if ids is None or callable(ids):
        return None
    return tuple(map(str, ids.tolist() if isinstance(ids, Tensor | np.ndarray) else ids))


def check_positions(dataset: Any) -> None:
    """Raise if a sample without an id of its own is in a ``Subset`` more than once.

    Raises
    ------
    InvalidDataError
        If one is: its other places would go on being trained on.
    """
    indices = list(dataset.indices) if isinstance(dataset, Subset) else []
    repeated = len(indices) - len(set(indices))
    if repeated:
        raise InvalidDataError(
            f"a Subset names {repeated} samples more than once, and they have no ids; expected each once: a request for"
            " one place would leave the others. Give the data set an `ids` attribute with one id for each place, or"
            " oversample in the loss"
        )


def label_column(dataset: Any, key: int | str) -> list[int] | None:
    """Labels that a data set has beside its items: ``targets`` of torchvision, a column of ``datasets.Dataset``.

    They may be others than those of its items. None if it has none, or they are not whole numbers.
    """
    if isinstance(dataset, Subset):
        whole = label_column(dataset.dataset, key)
        return None if whole is None else [whole[index] for index in dataset.indices]
    has_column = key in getattr(dataset, "column_names", ()) and hasattr(dataset, "with_format")
    column: Any = dataset.with_format(None)[key] if has_column else getattr(dataset, "targets", None)
    try:
        return None if column is None else [operator.index(label) for label in column]
    except TypeError:
        return None


def class_names_of(dataset: Any, key: int | str, class_count: int) -> tuple[str, ...] | None:
    """The names of the classes: those of a ``ClassLabel`` of ``datasets.Dataset``, or torchvision's ``classes``.

    Parameters
    ----------
    dataset : Dataset
    key : int or str
        Column of a batch that holds the labels.
    class_count : int
        Number of classes of the whole task.

    Returns
    -------
    tuple of str, or None
        None if the data set has no names, or others than one for each class, which is logged.
    """
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    features = getattr(dataset, "features", None)
    column = features.get(key) if isinstance(features, dict) else None
    names = getattr(column, "names", None) or getattr(dataset, "classes", None)
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return None
    problem = class_names_problem(tuple(names), class_count)
    if problem is not None:
        logger.warning("the names of the classes that %s has are not used: %s", type(dataset).__name__, problem)
        return None
    return tuple(names)
