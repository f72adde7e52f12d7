"""Builds a model by name, with reproducible initial weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from fed_unlearn.errors import InvalidModelError, InvalidParameterError
from fed_unlearn.logits import evaluation_mode
from fed_unlearn.model_inputs import model_inputs
from fed_unlearn.models.networks import AllCNN, SmallCNN
from fed_unlearn.models.weights import checkpoint_shapes
from fed_unlearn.registry import imported_callable
from fed_unlearn.seeding import derive_seed, isolated_random
from fed_unlearn.text import quoted

ACCEPTED_NAMES = "'small-cnn', 'all-cnn', 'torchvision:NAME' or 'package.module:callable'"
BUILT_IN: dict[str, type[SmallCNN] | type[AllCNN]] = {"small-cnn": SmallCNN, "all-cnn": AllCNN}


def build_model(
    name: str,
    *,
    class_count: int,
    image_shape: tuple[int, int, int],
    seed: int = 0,
    parameters: Mapping[str, object] | None = None,
) -> nn.Module:
    """Build an image classifier by name.

    Parameters
    ----------
    name : str
        ``small-cnn``, ``all-cnn``, ``torchvision:NAME``, or ``package.module:callable``. The callable takes
        ``class_count`` and ``image_shape`` by keyword and returns a module.
    class_count : int
        Number of logits.
    image_shape : tuple of int
        Channels, height and width of the images.
    seed : int, default 0
        Seed of the initial weights. Global generators are not changed.
    parameters : mapping of str to object, optional
        Passed to the model by keyword. ``-`` and ``_`` mean the same.

    Returns
    -------
    nn.Module
        Maps float images (n, channels, height, width) in [0, 1] to logits (n, class_count).

    Raises
    ------
    InvalidModelError
        If there is no such model, or it does not map such images to such logits.
    InvalidParameterError
        If the model does not accept a parameter or its value.
    """
    keywords = {key.replace("-", "_"): value for key, value in (parameters or {}).items()}
    builder = _builder(name)
    if name in BUILT_IN:
        _check_parameters(name, builder, keywords)
    with isolated_random(derive_seed(seed, "model")):
        try:
            model = builder(class_count=class_count, image_shape=image_shape, **keywords)
        except (TypeError, ValueError) as error:
            if isinstance(error, InvalidModelError | InvalidParameterError):
                raise
            given = ", ".join(f"{key}={quoted(value)}" for key, value in keywords.items()) or "no parameters"
            raise InvalidParameterError(f"{name}: cannot be built with {given} ({error})") from error
        _check_outputs(name, model, class_count, image_shape)
    return model


def checkpoint_parameters(name: str, path: Path) -> dict[str, object]:
    """Parameters of the model that a checkpoint was saved from, as far as its tensors' shapes determine them.

    Parameters
    ----------
    name : str
        Name of the model, as in :func:`build_model`.
    path : Path
        Path of a safetensors file.

    Returns
    -------
    dict of str to object
        Parameters for :func:`build_model`. Empty if the model is not built in or the checkpoint is of another model;
        :func:`~fed_unlearn.models.load_checkpoint` then explains what does not fit.

    Raises
    ------
    InvalidModelError
        If the file is missing or is not a safetensors file.
    """
    shapes = checkpoint_shapes(path)
    return BUILT_IN[name].parameters_from(shapes) if name in BUILT_IN else {}


def last_linear(model: nn.Module, name: str | None = None) -> tuple[str, nn.Linear]:
    """The linear layer that outputs the logits.

    Parameters
    ----------
    model : nn.Module
        The model.
    name : str, optional
        The layer's name in ``model.named_modules()``. If none is given, the last linear layer in that order.

    Returns
    -------
    (str, nn.Linear)
        The layer's name and the layer.

    Raises
    ------
    InvalidModelError
        If the model has no linear layer, or the named one is not linear.
    """
    layers = {path: module for path, module in model.named_modules() if isinstance(module, nn.Linear)}
    if not layers:
        raise InvalidModelError(f"{type(model).__name__} has no nn.Linear; expected a linear last layer")
    if name is None:
        name = next(reversed(layers))
    if name not in layers:
        raise InvalidModelError(f"{type(model).__name__} has no nn.Linear named {name!r}; it has {', '.join(layers)}")
    return name, layers[name]


def _builder(name: str) -> Callable[..., nn.Module]:
    if name in BUILT_IN:
        return BUILT_IN[name]
    place, separator, attribute = name.partition(":")
    if not separator or not place or not attribute:
        raise InvalidModelError(f"model {quoted(name)} is unknown; expected {ACCEPTED_NAMES}")
    if place == "torchvision":
        from functools import partial

        from fed_unlearn.models.vision import torchvision_model

        return partial(torchvision_model, attribute)
    try:
        return imported_callable(name)
    except InvalidParameterError as error:
        raise InvalidModelError(f"model {quoted(name)}: {error}") from error


def _check_parameters(name: str, builder: Callable[..., nn.Module], keywords: Mapping[str, object]) -> None:
    allowed = [key for key in inspect.signature(builder).parameters if key not in ("class_count", "image_shape")]
    unknown = sorted(set(keywords) - set(allowed))
    if unknown:
        raise InvalidParameterError(f"{name}: parameter {quoted(unknown[0])} is unknown; expected {', '.join(allowed)}")


def _check_outputs(name: str, model: object, class_count: int, image_shape: tuple[int, int, int]) -> None:
    if not isinstance(model, nn.Module):
        raise InvalidModelError(f"model {name!r}: a {type(model).__name__} was built; expected a torch.nn.Module")
    with evaluation_mode(model), torch.inference_mode():
        try:
            logits = model(model_inputs(model, torch.zeros(1, *image_shape), pack=False))
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise InvalidModelError(
                f"model {quoted(name)} cannot read images of shape {image_shape} ({reason})"
            ) from error
    if not isinstance(logits, torch.Tensor) or logits.shape != (1, class_count):
        found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise InvalidModelError(
            f"model {quoted(name)} gave {found} for one image; expected logits of shape (1, {class_count})"
        )
