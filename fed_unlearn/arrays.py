"""Models as dictionaries of arrays: to and from Flower's records, changed, clipped and averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from io import BytesIO
from statistics import median_low
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray
from torch import Tensor

from fed_unlearn.errors import FedUnlearnError

Arrays = dict[str, NDArray[Any]]

_NUMPY = "numpy.ndarray"
_LENGTH_AT, _HEADER_AT = 8, 10


class PackedArray(Array):
    """An array that is not to be changed, so that records can share it, and that decodes quickly.

    Parameters
    ----------
    dtype : str
        NumPy's name.
    shape : tuple of int
    data : bytes
        In NumPy's own format.
    """

    def __init__(self, dtype: str, shape: tuple[int, ...], data: bytes) -> None:
        self.__dict__.update(dtype=dtype, shape=shape, stype=_NUMPY, data=data)

    def __setattr__(self, name: str, value: object) -> None:
        if name in ("dtype", "shape", "stype", "data"):
            raise AttributeError(f"{name}: a packed array cannot be changed; put a new one in the record")
        super().__setattr__(name, value)

    def numpy(self) -> NDArray[Any]:
        """The array, as a copy that may be changed."""
        return decode(self)


def pack(arrays: Mapping[str, NDArray[Any] | Tensor]) -> ArrayRecord:
    """A record of named arrays or tensors: the bytes that ``ArrayRecord`` itself would make.

    Parameters
    ----------
    arrays : mapping of str to ndarray or Tensor
        Tensors may be on any device; bfloat16 is not among NumPy's dtypes.
    """
    record = ArrayRecord()
    for name, value in arrays.items():
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        data = _header(array.dtype.str, array.shape) + array.tobytes()
        record[name] = PackedArray(array.dtype.name, array.shape, data)
    return record


def unpack(record: ArrayRecord) -> Arrays:
    """The arrays of a record by name, as copies that may be changed."""
    return {name: decode(array) for name, array in record.items()}


def to_state_dict(record: ArrayRecord) -> dict[str, Tensor]:
    """The arrays of a record as tensors on the CPU, for ``load_state_dict``."""
    return {name: torch.from_numpy(value) for name, value in unpack(record).items()}


def decode(array: Array) -> NDArray[Any]:
    """One array, as a copy that may be changed."""
    data = array.data
    start = _HEADER_AT + int.from_bytes(data[_LENGTH_AT:_HEADER_AT], "little")
    dtype = np.dtype(array.dtype)
    if array.stype != _NUMPY or data[:start] != _header(dtype.str, tuple(array.shape)):
        if array.stype != _NUMPY:
            return array.numpy()
        loaded: NDArray[Any] = np.load(BytesIO(data), allow_pickle=False)
        return loaded
    return np.frombuffer(data, dtype=dtype, offset=start).reshape(array.shape).copy()


@lru_cache(maxsize=4096)
def _header(descriptor: str, shape: tuple[int, ...]) -> bytes:
    buffer = BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descriptor, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def difference(model: Arrays, base: Arrays) -> Arrays:
    """``model`` minus ``base`` for trainable arrays: what a client changed, without normalisation statistics."""
    return {name: np.asarray(model[name] - base[name]) for name in _trainable(base)}


def norm(change: Mapping[str, NDArray[Any]]) -> float:
    """Euclidean norm over all arrays of a change."""
    return float(np.sqrt(sum(np.square(value, dtype=np.float64).sum() for value in change.values())))


def add_clipped(base: Arrays, changes: Sequence[Arrays], max_norm: float) -> Arrays:
    """Add the sum of changes to a model, each first scaled down to a norm.

    A deletion request must not be a way to plant a model: no holder moves the model further than a client did in
    ordinary training. Changes of several holders are summed, not averaged.

    Parameters
    ----------
    base : dict of ndarray
    changes : sequence of dict of ndarray
        From :func:`difference`.
    max_norm : float
        Upper bound on the norm of each change.
    """
    moved = dict(base)
    for change in changes:
        length = norm(change)
        scale = min(1.0, max_norm / length) if length > 0 else 1.0
        for name, value in change.items():
            moved[name] = as_dtype(np.asarray(moved[name] + scale * value), base[name].dtype)
    return moved


def all_finite(arrays: Arrays) -> bool:
    """Whether every number is finite."""
    return all(bool(np.isfinite(value).all()) for value in arrays.values())


def _trainable(arrays: Arrays) -> list[str]:
    return [
        name
        for name, value in arrays.items()
        if np.issubdtype(value.dtype, np.floating) and not name.endswith(_STATISTICS)
    ]


def as_dtype(value: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Values in another dtype, rounded where it holds whole numbers."""
    if np.issubdtype(dtype, np.integer) and not np.issubdtype(value.dtype, np.integer):
        value = np.rint(value)
    return np.asarray(value, dtype=dtype)


def weighted_average(models: Sequence[Arrays], weights: Sequence[float]) -> Arrays:
    """Average of models, each weighted by its share of the total weight; integer arrays keep their dtype.

    Parameters
    ----------
    models : sequence of dict of ndarray
        At least one, all with the same names and shapes.
    weights : sequence of float
        At least 0, not all 0; here the holders' forget samples, or the clients' retained ones.

    Raises
    ------
    FedUnlearnError
        If no weight is above 0.
    """
    total = float(sum(weights))
    if total <= 0:
        raise FedUnlearnError("no model has a weight above 0; at least one client must hold a sample")
    averaged: Arrays = {}
    for name, first in models[0].items():
        summed = sum(
            np.asarray(model[name], dtype=np.float64) * (weight / total)
            for model, weight in zip(models, weights, strict=True)
        )
        averaged[name] = as_dtype(np.asarray(summed), first.dtype)
    return averaged


def with_dtypes_of(arrays: Arrays, reference: Arrays) -> Arrays:
    """The same values in the dtypes of a reference: aggregation turns integer buffers into floats."""
    return {name: as_dtype(value, reference[name].dtype) for name, value in arrays.items()}


def longest_usual(norms: Sequence[float], factor: float, usual: float | None = None) -> float:
    """Beyond this a change is absurdly long: a multiple of what is usual before and in its own round.

    Parameters
    ----------
    norms : sequence of float
        Of all changes of the round; of two medians the lower one counts, so that one client of two cannot set it.
    factor : float
        At least 1.
    usual : float or None
        Median norm of an earlier round; the larger one of both medians counts.

    Returns
    -------
    float
        Infinite where nothing tells what is usual: there is one change alone, or most are none.
    """
    middle = max(usual or 0.0, median_low(norms)) if len(norms) > 1 else 0.0
    return factor * middle if middle > 0 else float("inf")


def clipped(model: Arrays, base: Arrays, max_norm: float | None) -> Arrays:
    """A model whose change from another is scaled down to a norm where it is longer; itself where it is not.

    A model that is scaled down has the other one's statistics and counters: nothing bounds its own.
    """
    if max_norm is None:
        return model
    change = difference(model, base)
    return model if norm(change) <= max_norm else add_clipped(base, [change], max_norm)
