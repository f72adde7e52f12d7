"""Values of attributes that count as a strategy's state: arrays and numbers, taken apart and put together again."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from flwr.app import ArrayRecord
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from fed_unlearn.arrays import Arrays, pack, unpack
from fed_unlearn.errors import InvalidModelError


class Layout(BaseModel):
    """How arrays that belong to one attribute are put together again.

    Attributes
    ----------
    kind : str
        Kind of value that holds the arrays.
    names : tuple of int or str
        Names of the arrays within the attribute, in order.
    numbers : tuple of int or str
        Names of those that are numbers of NumPy and no arrays.
    is_model : bool or None
        Whether it is a model that a strategy keeps; None where an earlier version of the library wrote it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["array", "list", "tuple", "dict", "record"]
    names: tuple[int | str, ...]
    numbers: tuple[int | str, ...] = ()
    is_model: bool | None = None


def is_scalar(value: object) -> bool:
    """Whether a value is one that JSON has, besides lists and objects."""
    return value is None or type(value) in (bool, int, float, str)


def is_number(value: object) -> bool:
    """Whether a value is a scalar, or a number of NumPy's."""
    return is_scalar(value) or (_is_array(value) and np.ndim(value) == 0)  # type: ignore[arg-type]


def is_state(value: object) -> bool:
    """Whether a value is a scalar, an array, a list, tuple or dictionary of arrays, or an ArrayRecord."""
    try:
        match value:
            case ArrayRecord():
                return True
            case list() | tuple():
                return all(_is_array(item) for item in value)
            case dict():
                return all(isinstance(key, int | str) and _is_array(item) for key, item in value.items())
        return is_scalar(value) or _is_array(value)
    except Exception:  # an object of the user's own that cannot be read cannot be stored
        return False


def is_record_of_numbers(value: object) -> bool:
    """Whether a state is a list, tuple or dictionary of NumPy's numbers alone, such as the accuracy of each round."""
    items = list(value.values()) if isinstance(value, dict) else value
    return isinstance(items, list | tuple) and all(_is_array(item) and np.ndim(item) == 0 for item in items)


def is_same(value: object, other: object) -> bool:
    """Whether two states are equal, bit for bit."""
    if is_scalar(value) or is_scalar(other):
        return type(value) is type(other) and value == other
    (layout, arrays), (other_layout, others) = taken_apart(value), taken_apart(other)
    return layout == other_layout and all(_same_bytes(arrays[name], others[name]) for name in arrays)


def taken_apart(value: Any) -> tuple[Layout, Arrays]:
    """Copies of a state's arrays by name, and how they are put together."""
    match value:
        case ArrayRecord():
            return Layout(kind="record", names=tuple(value)), unpack(value)
        case list() | tuple():
            kind: Literal["list", "tuple"] = "list" if isinstance(value, list) else "tuple"
            return _of_items(kind, dict(enumerate(value)))
        case dict():
            return _of_items("dict", value)
    return _of_items("array", {0: value})


def put_together(layout: Layout, arrays: Arrays, attribute: str) -> object:
    """The state again.

    Raises
    ------
    InvalidModelError
        If arrays are missing.
    """
    missing = [name for name in layout.names if str(name) not in arrays]
    if missing:
        raise InvalidModelError(f"the stored state of {attribute} lacks array {missing[0]!r}; restore its file")
    values = {name: np.array(arrays[str(name)]) for name in layout.names}
    values |= {name: values[name][()] for name in layout.numbers}
    match layout.kind:
        case "record":
            return pack({str(name): value for name, value in values.items()})
        case "list":
            return list(values.values())
        case "tuple":
            return tuple(values.values())
        case "dict":
            return values
    return values[0]


def _of_items(kind: Literal["array", "list", "tuple", "dict"], items: dict[Any, Any]) -> tuple[Layout, Arrays]:
    numbers = tuple(name for name, value in items.items() if isinstance(value, np.generic))
    copies = {str(name): np.array(value, order="C") for name, value in items.items()}
    return Layout(kind=kind, names=tuple(items), numbers=numbers), copies


def _is_array(value: object) -> bool:
    return isinstance(value, np.ndarray | np.generic) and value.dtype != object


def _same_bytes(value: NDArray[Any], other: NDArray[Any]) -> bool:
    return (value.dtype, value.shape, value.tobytes()) == (other.dtype, other.shape, other.tobytes())
