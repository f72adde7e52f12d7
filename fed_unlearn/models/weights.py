"""Model weights in safetensors files, which are written completely or not at all and checked before they are loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fed_unlearn.errors import InvalidModelError
from fed_unlearn.wrapped_names import renamed


def save_checkpoint(
    model: nn.Module | Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a model's state as a safetensors file.

    Parameters
    ----------
    model : nn.Module or mapping of str to Tensor
        The model, or its state dict.
    path : Path
        The file. Missing folders are made, and an existing file is replaced in one step.
    metadata : mapping of str to str, optional
        Written to the file's header.
    """
    state = model.state_dict() if isinstance(model, nn.Module) else model
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(tensors, unfinished, dict(metadata) if metadata else None)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def checkpoint_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the shape of every tensor from the header of a safetensors file.

    Raises
    ------
    InvalidModelError
        If the file is missing or is not a safetensors file.
    """
    with _reading(path), safe_open(path, framework="pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def load_checkpoint(model: nn.Module, path: Path) -> None:
    """Load weights into a model in place. If an error is raised, the model is unchanged.

    Parameters
    ----------
    model : nn.Module
        The model.
    path : Path
        A safetensors file with exactly the tensors of ``model.state_dict()``. The prefixes of wrappers, ``module.`` of
        DataParallel and ``_orig_mod.`` of torch.compile, may differ.

    Raises
    ------
    InvalidModelError
        If the file is missing, is not a safetensors file, or is of another model. The message names the file, the
        first tensor that does not fit, and the shapes.
    """
    with _reading(path):
        tensors = load_file(path)
    expected = model.state_dict()
    tensors = renamed(tensors, expected)
    for name, tensor in expected.items():
        if name not in tensors:
            raise InvalidModelError(
                f"{path}: has no tensor {name!r}, which the model expects with shape {tuple(tensor.shape)};"
                " the checkpoint is of another model"
            )
        if tensors[name].shape != tensor.shape:
            raise InvalidModelError(
                f"{path}: tensor {name!r} has shape {tuple(tensors[name].shape)}; the model expects"
                f" {tuple(tensor.shape)}: the checkpoint is of another model or another number of classes"
            )
    unknown = next((name for name in tensors if name not in expected), None)
    if unknown is not None:
        raise InvalidModelError(
            f"{path}: tensor {unknown!r} of shape {tuple(tensors[unknown].shape)} is not one of the model's;"
            " the checkpoint is of another model"
        )
    model.load_state_dict(tensors)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Name a file that is missing or cannot be read as a safetensors file."""
    if not Path(path).is_file():
        raise InvalidModelError(f"{path}: no such checkpoint; expected a safetensors file")
    try:
        yield
    except (SafetensorError, OSError) as error:
        raise InvalidModelError(
            f"{path}: not a readable safetensors file ({error}); write one by"
            " safetensors.torch.save_file(model.state_dict(), PATH)"
        ) from error
