"""A model as a dictionary of arrays by name.

Arrays travel in Flower's records. Here they are packed and unpacked, and two models are compared: the change between
them, its norm, the clipped change, and the weighted average of several models.
"""

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
_LENGTH_AT, _HEADER_AT = 8, 10  # positions of the header's length and of the header in NumPy's format

MEAN, VARIANCE, COUNTER = "running_mean", "running_var", "num_batches_tracked"
"""Endings of the names of BatchNorm's buffers."""

ROUNDING = 1e-6
"""Models whose difference is not longer than this share of their own length differ by rounding alone."""


class PackedArray(Array):
    """An immutable array, which several records can share, and which decodes quickly.

    Parameters
    ----------
    dtype : str
        NumPy's name of the dtype.
    shape : tuple of int
        Shape of the array.
    data : bytes
        The array in NumPy's own file format.
    """

    def __init__(self, dtype: str, shape: tuple[int, ...], data: bytes) -> None:
        self.__dict__.update(dtype=dtype, shape=shape, stype=_NUMPY, data=data)

    def __setattr__(self, name: str, value: object) -> None:
        if name in ("dtype", "shape", "stype", "data"):
            raise AttributeError(f"{name}: a packed array cannot be changed; put a new one in the record")
        super().__setattr__(name, value)

    def numpy(self) -> NDArray[Any]:
        """A copy of the array, which may be changed."""
        return decode(self)

    def deflate(self) -> bytes:
        """The bytes that go over the wire: those of a plain ``Array``, since a SuperLink accepts no other class."""
        return Array(self.dtype, self.shape, self.stype, self.data).deflate()


def pack(arrays: Mapping[str, NDArray[Any] | Tensor]) -> ArrayRecord:
    """Pack named arrays or tensors in a record. The bytes equal those that ``ArrayRecord`` itself would make.

    Parameters
    ----------
    arrays : mapping of str to ndarray or Tensor
        Arrays of any dtype of NumPy. Tensors may be on any device. Those of bfloat16, which neither NumPy nor Flower
        has, become float32, which holds every value of them.
    """
    record = ArrayRecord()
    for name, value in arrays.items():
        array = as_array(value) if isinstance(value, Tensor) else np.asarray(value)
        dtype, descriptor = _names_of(array.dtype)
        record[name] = PackedArray(dtype, array.shape, _header(descriptor, array.shape) + array.tobytes())
    return record


def as_array(tensor: Tensor) -> NDArray[Any]:
    """A tensor's values, on the CPU, without a copy where that can be. Those of bfloat16 become float32."""
    tensor = tensor.detach().cpu()
    array: NDArray[Any] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def unpack(record: ArrayRecord) -> Arrays:
    """Copies of a record's arrays by name, which may be changed."""
    return {name: decode(array) for name, array in record.items()}


def to_state_dict(record: ArrayRecord) -> dict[str, Tensor]:
    """Copies of a record's arrays as tensors on the CPU, for ``load_state_dict``."""
    return {name: torch.from_numpy(value) for name, value in unpack(record).items()}


def decode(array: Array) -> NDArray[Any]:
    """A copy of one array of a record, which may be changed."""
    data = array.data
    start = _HEADER_AT + int.from_bytes(data[_LENGTH_AT:_HEADER_AT], "little")
    dtype = np.dtype(array.dtype)
    if array.stype != _NUMPY or data[:start] != _header(_names_of(dtype)[1], tuple(array.shape)):
        if array.stype != _NUMPY:
            return array.numpy()
        loaded: NDArray[Any] = np.load(BytesIO(data), allow_pickle=False)
        return loaded
    return np.frombuffer(data, dtype=dtype, offset=start).reshape(array.shape).copy()


@lru_cache(maxsize=256)
def _names_of(dtype: np.dtype[Any]) -> tuple[str, str]:
    """The dtype's name, and how NumPy's format describes it. NumPy makes both anew each time."""
    return dtype.name, dtype.str


@lru_cache(maxsize=4096)
def _header(descriptor: str, shape: tuple[int, ...]) -> bytes:
    buffer = BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descriptor, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def all_finite(arrays: Arrays) -> bool:
    """Whether every value of a model is finite."""
    return all(bool(np.isfinite(value).all()) for value in arrays.values())


def as_dtype(value: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Convert values to another dtype. They are rounded if it is one of whole numbers or truth values."""
    if dtype.kind in "iub" and value.dtype.kind not in "iub":
        value = np.rint(value)
    return np.asarray(value, dtype=dtype)


def with_dtypes_of(arrays: Arrays, reference: Arrays) -> Arrays:
    """Convert a model to the dtypes of a reference, because aggregation turns integer buffers into floats."""
    return {name: as_dtype(value, reference[name].dtype) for name, value in arrays.items()}


def same_bits(first: Arrays, second: Arrays) -> bool:
    """Whether two models have the same arrays, bit for bit."""
    if first is second:
        return True
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype
        and first[name].shape == second[name].shape
        and first[name].tobytes() == second[name].tobytes()
        for name in first
    )


def hardly_differs(model: Arrays, base: Arrays) -> bool:
    """Whether two models of the same arrays differ by no more than rounding does.

    All arrays of floating-point numbers count together, BatchNorm statistics too. Integer arrays make no difference:
    BatchNorm's counter changes nothing that a model says.
    """
    if model is base or same_bits(model, base):
        return True
    names = [name for name, value in base.items() if np.issubdtype(value.dtype, np.floating)]
    change = {name: np.subtract(model[name], base[name], dtype=np.float64) for name in names}
    return norm(change) <= ROUNDING * norm({name: base[name] for name in names})


def difference(model: Arrays, base: Arrays) -> Arrays:
    """The change ``model - base`` of trainable arrays. Integer arrays and BatchNorm statistics are left out."""
    return {name: np.asarray(model[name] - base[name]) for name in _trainable(base)}


def untrained(arrays: Arrays) -> list[str]:
    """Names of the arrays that :func:`difference` leaves out: integer arrays and BatchNorm statistics."""
    trained = set(_trainable(arrays))
    return [name for name in arrays if name not in trained]


def norm(change: Mapping[str, NDArray[Any]]) -> float:
    """Euclidean norm of a change over all its arrays."""
    return float(np.sqrt(sum(np.square(value, dtype=np.float64).sum() for value in change.values())))


def longest_usual(norms: Sequence[float], factor: float, usual: float | None = None) -> float:
    """The norm from which on a change counts as too long: a multiple of the median norm.

    Parameters
    ----------
    norms : sequence of float
        Norms of all changes of the round. The lower median is used, so that one client of two cannot set it.
    factor : float
        The multiple, at least 1.
    usual : float or None
        Median norm of an earlier round. The larger one of both medians is used.

    Returns
    -------
    float
        Infinite if no median is known: the round has one change only, or most of its changes are zero.
    """
    middle = max(usual or 0.0, median_low(norms)) if len(norms) > 1 else 0.0
    return factor * middle if middle > 0 else float("inf")


def clipped(model: Arrays, base: Arrays, max_norm: float | None) -> Arrays:
    """Scale a model's change from ``base`` down to a norm. The model itself is returned if its change is not longer.

    A model that is scaled down gets the BatchNorm statistics and counters of ``base``, because no norm bounds its own.
    """
    if max_norm is None:
        return model
    change = difference(model, base)
    return model if norm(change) <= max_norm else add_clipped(base, [change], max_norm)


def add_clipped(base: Arrays, changes: Sequence[Arrays], max_norm: float) -> Arrays:
    """Scale each change down to a norm and add the sum of all changes to a model.

    The bound keeps a deletion request from being a way to plant a model: no holder moves the model further than a
    client does in ordinary training. The changes of several holders are summed, not averaged.

    Parameters
    ----------
    base : dict of ndarray
        The model.
    changes : sequence of dict of ndarray
        Changes as :func:`difference` returns them.
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


def weighted_average(models: Sequence[Arrays], weights: Sequence[float]) -> Arrays:
    """Average of models, each weighted by its share of the total weight. Integer arrays keep their dtype.

    Parameters
    ----------
    models : sequence of dict of ndarray
        At least one model. All have the same names and shapes.
    weights : sequence of float
        Weight of each model, at least 0: the number of the holder's forget samples or the client's retained ones.

    Raises
    ------
    FedUnlearnError
        If no weight is above 0.
    """
    total = float(sum(weights))
    if total <= 0:
        raise FedUnlearnError("no model has a weight above 0; expected at least one client that holds a sample")
    averaged: Arrays = {}
    for name, first in models[0].items():
        summed = sum(
            np.asarray(model[name], dtype=np.float64) * (weight / total)
            for model, weight in zip(models, weights, strict=True)
        )
        averaged[name] = as_dtype(np.asarray(summed), first.dtype)
    return averaged


def _trainable(arrays: Arrays) -> list[str]:
    return [
        name
        for name, value in arrays.items()
        if np.issubdtype(value.dtype, np.floating) and not name.endswith((MEAN, VARIANCE, COUNTER))
    ]
