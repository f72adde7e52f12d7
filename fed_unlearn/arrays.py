"""Models to and from Flower's ArrayRecords, in NumPy's own format, without parsing a header twice.

For small models Flower's way costs more than the average of the models itself; the bytes are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray
from torch import Tensor

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
