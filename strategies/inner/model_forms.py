"""The forms in which a model is kept: records, dictionaries, lists and modules, read and made of other arrays."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from torch import Tensor, nn

from fed_unlearn.arrays import Arrays, as_array, as_dtype, decode, pack
from fed_unlearn.shapes import Shapes


def read_model(value: object, shapes: Shapes) -> Arrays | None:
    """The arrays of a value that has the names and shapes of a model; None of any other.

    Parameters
    ----------
    value : object
        An nn.Module, a mapping or ArrayRecord, or a list or tuple in the model's order.
    shapes : mapping of str to tuple of int
        Shapes of the model's arrays, in its order.

    Returns
    -------
    dict of ndarray or None
        Arrays by name. They may share their memory with the value.
    """
    if not shapes:
        return None
    items: Mapping[Any, Any]
    match value:
        case nn.Module():
            items = value.state_dict()
        case Mapping():
            items = value
        case list() | tuple() if len(value) == len(shapes):
            items = dict(zip(shapes, value, strict=True))
        case _:
            return None
    if len(items) != len(shapes) or any(name not in items for name in shapes):
        return None
    held = {name: items[name] for name in shapes}
    if not all(isinstance(item, Tensor | np.ndarray | np.generic | Array) for item in held.values()):
        return None
    if any(tuple(item.shape) != shapes[name] for name, item in held.items()):
        return None
    return {name: _numpy(item) for name, item in held.items()}


def model_digest(arrays: Arrays) -> str:
    """Digest of a model's names, shapes, dtypes and bytes; the order of its arrays does not matter."""
    digest = hashlib.blake2b(digest_size=16)
    for name, array in sorted(arrays.items()):
        digest.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def in_form_of(value: Any, model: Arrays) -> object:
    """A model in the form in which another one is kept: tensors on the same device, arrays of the same dtype.

    Parameters
    ----------
    value : object
        What :func:`read_model` reads as a model of the same names and shapes. It stays as it is; a module alone is
        changed itself, since others hold its parameters.
    model : dict of ndarray

    Returns
    -------
    object
        The model, of the type of ``value``.
    """
    match value:
        case nn.Module():
            value.load_state_dict({name: _like(item, model[name]) for name, item in value.state_dict().items()})
            return value
        case ArrayRecord():
            return pack({name: as_dtype(model[name], np.dtype(item.dtype)) for name, item in value.items()})
        case Mapping():
            made = {name: _like(value[name], model[name]) for name in value}
            if isinstance(value, dict):
                copied = copy.copy(value)
                copied.update(made)
                return copied
            return type(value)(made)  # type: ignore[call-arg]
    items = [_like(item, array) for item, array in zip(value, model.values(), strict=True)]
    return value._make(items) if hasattr(value, "_make") else type(value)(items)


def _like(item: Any, array: np.ndarray) -> object:
    match item:
        case Tensor():
            made = torch.from_numpy(np.array(array)).to(device=item.device, dtype=item.dtype)
            if isinstance(item, nn.Parameter):
                return nn.Parameter(made, requires_grad=item.requires_grad)
            return made.requires_grad_(item.requires_grad)
        case Array():
            return pack({"": as_dtype(array, np.dtype(item.dtype))})[""]
        case np.generic():
            return item.dtype.type(array)
    return np.array(as_dtype(array, item.dtype))


def _numpy(item: Any) -> np.ndarray:
    if isinstance(item, Tensor):
        return as_array(item)
    return decode(item) if isinstance(item, Array) else np.asarray(item)
