"""The types of arrays that a federation can average."""

from __future__ import annotations

import numpy as np
from flwr.app import ArrayRecord

from fed_unlearn.errors import InvalidModelError

_AVERAGED, _COMPLEX = "fiub", "c"  # NumPy's kinds: floating-point, whole numbers, truth values


def check_array_types(arrays: ArrayRecord) -> None:
    """Raise if a model has an array that cannot be averaged, clipped and compared as numbers.

    Parameters
    ----------
    arrays : ArrayRecord
        The model's arrays by name.

    Raises
    ------
    InvalidModelError
        The message names the first such array, its type, and what to do.
    """
    for name, array in arrays.items():
        kind = _kind_of(array.dtype)
        if kind in _AVERAGED:
            continue
        remedy = (
            "keep real and imaginary parts (torch.view_as_real), or register a constant buffer with persistent=False"
            if kind == _COMPLEX
            else "convert it to float32 before it is sent, as fed_unlearn.arrays.pack does with bfloat16"
        )
        raise InvalidModelError(
            f"array {name!r} of the model is of {array.dtype}; expected floating-point numbers, whole numbers or truth"
            f" values, which can be averaged: {remedy}"
        )


def _kind_of(dtype: str) -> str:
    try:
        return np.dtype(dtype).kind
    except TypeError:  # a type of another library, such as JAX's bfloat16
        return "V"
