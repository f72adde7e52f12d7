"""The normalisation that an app's transforms apply to its images, found where torchvision or Hugging Face show it."""

from __future__ import annotations

import dis
import functools
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import suppress
from types import CodeType
from typing import Any

import torch
from torch.utils.data import Subset

from fed_unlearn.data.domain import InputDomain
from fed_unlearn.errors import InvalidDataError

logger = logging.getLogger("fed_unlearn.data")

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel, of images in [0, 1]."""

_DEPTH = 4


def found_normalisation(dataset: Any) -> Normalisation | None:
    """The mean and the standard deviation by which the transforms of a data set normalise its images.

    Looked at are torchvision's ``transform`` and ``transforms``, the function of ``datasets.Dataset.with_transform``
    with the variables that it uses, and image processors of ``transformers``.

    Parameters
    ----------
    dataset : Dataset

    Returns
    -------
    tuple of tuple of float, or None
        None if no normalisation is found.

    Raises
    ------
    InvalidDataError
        If several different ones are found.
    """
    found = {item for transform in transforms_of(dataset) for item in normalisations(transform)}
    return the_only(found, type(dataset).__name__, "normalize=((0.5,), (0.5,))")


def the_only(found: Set[Normalisation], named: str, said: str) -> Normalisation | None:
    """The normalisation that was found, if there is one.

    Parameters
    ----------
    found : set of tuple
        What was found in all transforms of a data set.
    named : str
        The data set's name, for the message.
    said : str
        How a user says which one is right, for the message.

    Raises
    ------
    InvalidDataError
        If there are several.
    """
    if len(found) > 1:
        raise InvalidDataError(
            f"the transforms of {named} normalise in {len(found)} ways: {sorted(found)}; say which one the model's"
            f" inputs have, as in {said}"
        )
    return next(iter(found), None)


def normalisations(transform: Any) -> Iterator[Normalisation]:
    """Yield those that a transform applies itself, or in what it is made of."""
    return _normalisations(transform, _DEPTH)


def transforms_of(dataset: Any) -> Iterator[Any]:
    """Yield the transforms that a data set, or the one below its subsets, applies itself."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    for name in ("transform", "transforms"):
        if getattr(dataset, name, None) is not None:
            yield getattr(dataset, name)
    form = getattr(dataset, "format", None)  # of datasets.Dataset
    if isinstance(form, Mapping) and isinstance(form.get("format_kwargs"), Mapping):
        yield form["format_kwargs"].get("transform")


def _normalisations(given: Any, depth: int) -> Iterator[Normalisation]:
    """Those that a transform applies itself, or in what it is made of."""
    if given is None or depth < 0:
        return
    name = type(given).__name__
    if name == "Normalize" and hasattr(given, "mean") and hasattr(given, "std"):
        yield _pair(given.mean, given.std)
    elif hasattr(given, "image_mean") and hasattr(given, "image_std"):
        if getattr(given, "do_normalize", True):
            yield _pair(given.image_mean, given.image_std)
    elif isinstance(given, functools.partial):
        for part in (given.func, *given.args, *given.keywords.values()):
            yield from _normalisations(part, depth - 1)
    elif inspect.isfunction(given) or inspect.ismethod(given):
        for part in _used_by(given):
            yield from _normalisations(part, depth - 1)
    else:
        for part in _parts(given):
            yield from _normalisations(part, depth - 1)


def _parts(transform: Any) -> Iterator[Any]:
    """What a transform is made of: the steps of a composed one, and what an object keeps."""
    if isinstance(transform, torch.nn.Module):
        yield from transform.children()
    kept = (
        [transform] if isinstance(transform, list | tuple | dict) else list(getattr(transform, "__dict__", {}).values())
    )
    for value in kept:
        if isinstance(value, Mapping):
            yield from value.values()
        elif isinstance(value, list | tuple):
            yield from value
        elif callable(value):
            yield value


def _used_by(function: Callable[..., Any]) -> Iterator[Any]:
    """The objects that a function's code refers to, in its closure and in its module."""
    function = inspect.unwrap(getattr(function, "__func__", function))
    for cell in getattr(function, "__closure__", None) or ():
        with suppress(ValueError):  # an empty cell
            yield cell.cell_contents
    known = getattr(function, "__globals__", {})
    for name in sorted(_names(function.__code__)):
        value = known.get(name)
        if not inspect.isclass(value) and not inspect.ismodule(value):
            yield value


def _names(code: CodeType) -> set[str]:
    """Global names that code loads, with those of comprehensions and functions inside; no names of attributes."""
    own = {str(step.argval) for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    inside = [_names(part) for part in code.co_consts if isinstance(part, CodeType)]
    return own.union(*inside)


def _pair(mean: Any, std: Any) -> Normalisation:
    numbers = [torch.as_tensor(item, dtype=torch.float64).flatten().tolist() for item in (mean, std)]
    return tuple(numbers[0]), tuple(numbers[1])


def normalised_domain(found: Normalisation | None, inputs: torch.Tensor) -> InputDomain | None:
    """What inputs are by the normalisation that was found for them.

    Parameters
    ----------
    found : tuple of tuple of float, optional
        Mean and standard deviation of each channel.
    inputs : Tensor of shape (n, ...), float32
        Some of the inputs.

    Returns
    -------
    InputDomain or None
        None if no normalisation was found, or if the inputs are not in its range. A warning is logged then.
    """
    if found is None:
        return None
    domain = InputDomain.normalized(*found)
    try:
        domain.check(inputs)
    except InvalidDataError as error:  # a transform after it, or one that overshoots
        logger.warning("the transforms normalise, but not all they give is in that range: %s", error)
        return None
    return domain
