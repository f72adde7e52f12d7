"""The rows of a model's output layer, one a class, and the mean of the others' rows in place of a forgotten class's."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_unlearn.arrays import Arrays, as_dtype
from fed_unlearn.shapes import Shapes

ROWS_AS_TRAINED = "its output rows stay as they were trained: no plain ones of two or more retained classes are known"
"""What is said of a committed class request whose output rows could not be set."""


@dataclass(frozen=True)
class OutputRows:
    """Which arrays of a model are the rows of its output layer.

    Attributes
    ----------
    weight : str
        Name of the array of weights, one row a class.
    bias : str or None
        Name of the biases; None where the layer has none.
    """

    weight: str
    bias: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the arrays."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)

    def misfit(self, shapes: Shapes, class_count: int) -> str | None:
        """Why the arrays cannot be an output layer of a model with these arrays, in words; None where they can.

        Parameters
        ----------
        shapes : dict of str to tuple of int
            Shapes of all arrays of the model, by name.
        class_count : int
        """
        for name, dimensions in zip(self.names, ((2, 4), (1,)), strict=False):
            shape = shapes.get(name)
            if shape is None:
                return f"names {name!r} as part of its output layer, and the model has no such array"
            if len(shape) not in dimensions or shape[0] != class_count:
                return (
                    f"names {name!r} of shape {shape} as part of its output layer; expected one row for each of"
                    f" {class_count} classes"
                )
        return None


def fitting_weights(arrays: Arrays, class_count: int, feature_count: int, names: Iterable[str]) -> list[str]:
    """The arrays that may be the weights of an output layer, linear or a 1x1 convolution.

    Parameters
    ----------
    arrays : dict of ndarray
        The model.
    class_count, feature_count : int
        What the layer puts out and reads.
    names : iterable of str
        Names of arrays of the model. Only those that end in "weight" are looked at.

    Returns
    -------
    list of str
        Names of the arrays that fit, in the order of ``names``.
    """
    return [
        name
        for name in names
        if name.rpartition(".")[2] == "weight"
        and arrays[name].shape[:2] == (class_count, feature_count)
        and arrays[name].size == class_count * feature_count
    ]


def mean_row(values: NDArray[Any], others: Collection[int]) -> NDArray[Any]:
    """The mean of some rows of an array, taken in double precision, so that the same rows always give the same bytes.

    Parameters
    ----------
    values : ndarray of shape (classes, ...)
    others : collection of int
        Rows that are averaged, at least one.

    Returns
    -------
    ndarray of shape (...)
        Mean of the rows, in their dtype.
    """
    return as_dtype(np.asarray(values[sorted(others)].mean(axis=0, dtype=np.float64)), values.dtype)


def with_mean_rows(arrays: Arrays, rows: OutputRows, means: Mapping[int, Collection[int]]) -> Arrays:
    """A model in which some classes have the mean of other classes' rows and biases.

    The logit of such a class is the mean of the others' logits, so that it is never the largest.

    Parameters
    ----------
    arrays : dict of ndarray
        The model; it is not changed.
    rows : OutputRows
    means : mapping of int to collection of int
        Classes whose rows are averaged, at least one, by the class that gets their mean.
    """
    changed = dict(arrays)
    for name in rows.names:
        value = arrays[name].copy()
        for index, others in means.items():
            value[index] = mean_row(arrays[name], others)
        changed[name] = value
    return changed
