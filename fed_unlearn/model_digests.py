"""Digest of a model: two models with the same one answer alike."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn


def digest_of(model: nn.Module, without: str = "") -> str:
    """Digest of all that a model's answers depend on: its parameters, its buffers and how it is built.

    The digest covers the names and classes of the modules, and those of their attributes, private ones included, that
    are tensors, arrays, numbers, texts, or collections of them.

    Parameters
    ----------
    model : nn.Module
    without : str
        Name of a module whose parameters and buffers do not count; empty for none.
    """
    left_out = f"{without}." if without else None
    digest = hashlib.sha256(repr(model).encode())
    own = vars(nn.Module()).keys()
    for module_name, module in model.named_modules():
        for name, value in vars(module).items():
            if name not in own:
                _feed(digest, f"{module_name}.{name}", value)
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if left_out is None or not name.startswith(left_out):
            _feed(digest, name, tensor)
    return digest.hexdigest()


def _feed(digest: hashlib._Hash, name: str, value: object) -> None:
    """Add an attribute to a digest; whole, since the text of a large tensor leaves out most of it."""
    if isinstance(value, Tensor):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} {value.layout}".encode())
        if not value.is_meta:
            whole = value.detach().cpu() if value.layout is torch.strided else value.detach().cpu().to_dense()
            digest.update(whole.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        digest.update(f"{name} {value.dtype} {value.shape}".encode() + value.tobytes())
    elif isinstance(value, Mapping):
        digest.update(f"{name} {len(value)}".encode())
        for key, item in value.items():
            _feed(digest, f"{name}[{key!r}]", item)
    elif isinstance(value, tuple | list):
        digest.update(f"{name} {len(value)}".encode())
        for place, item in enumerate(value):
            _feed(digest, f"{name}[{place}]", item)
    elif value is None or isinstance(value, bool | int | float | complex | str | bytes):
        digest.update(f"{name} {value!r}".encode())
