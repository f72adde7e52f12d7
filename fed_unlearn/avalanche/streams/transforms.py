"""What Avalanche's views and the data sets below them do with images that are read for evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import Any

from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.benchmarks.utils.flat_data import FlatData
from avalanche.benchmarks.utils.transforms import TupleTransform
from torch.utils.data import Subset

from fed_unlearn.data.evaluation import with_transform
from fed_unlearn.data.normalisation import Normalisation, normalisations, the_only, transforms_of
from fed_unlearn.seeding import isolated_globals

_LEFT_OUT = frozenset({"RandomCrop", "RandomHorizontalFlip", "RandomVerticalFlip"})


def normalisation_of(dataset: AvalancheDataset) -> Normalisation | None:
    """Return the mean and the standard deviation by which images are normalised when they are read for evaluation.

    Looked at are the ``eval`` groups of all views, frozen ones included, and the transforms of the data sets below.

    Raises
    ------
    InvalidDataError
        If several different ones are found.
    """
    transforms = [*_group_transforms(dataset._flat_data), *_base_transforms(dataset._flat_data)]
    found = {item for transform in transforms for item in normalisations(transform)}
    return the_only(found, type(dataset).__name__, "UnlearningPlugin(domain=InputDomain.normalized(mean, std))")


def is_changed(dataset: AvalancheDataset, element: int) -> bool:
    """Return whether a view changes the image (element 0) or the label (element 1) when a sample is evaluated."""
    return any(_changes(transform, element) for transform in _group_transforms(dataset._flat_data))


def without_augmentation(dataset: AvalancheDataset) -> AvalancheDataset:
    """Return the data set as it is read for evaluation, without random crops and flips of the data sets below it.

    Such a data set may have one transform only, which is that of training. ``RandomCrop``, ``RandomHorizontalFlip`` and
    ``RandomVerticalFlip`` of torchvision are left out of a composed transform, if images have the same shape without
    them. Every other random step stays.

    Parameters
    ----------
    dataset : AvalancheDataset
        The data set. It is not changed.
    """
    view = copy(dataset.eval())
    view._flat_data = _over_plain_bases(view._flat_data)
    return view


def _group_transforms(data: Any) -> Iterator[Any]:
    """Yield the transform of each view's ``eval`` groups."""
    if isinstance(data, FlatData):
        for name in ("_transform_groups", "_frozen_transform_groups"):
            group = getattr(data, name, None)
            if group is not None and group["eval"] is not None:
                yield group["eval"]
        for child in data._datasets:
            yield from _group_transforms(child)


def _base_transforms(data: Any) -> Iterator[Any]:
    if not isinstance(data, FlatData):
        yield from transforms_of(data)
        return
    for child in data._datasets:
        yield from _base_transforms(child)


def _changes(transform: Any, element: int) -> bool:
    if isinstance(transform, TupleTransform):
        return any(part is not None for part in transform.transforms[element : element + 1])
    return True


def _over_plain_bases(data: Any) -> Any:
    if not isinstance(data, FlatData):
        return _plain(data)
    view = copy(data)
    view._datasets = [_over_plain_bases(child) for child in data._datasets]
    return view


def _plain(base: Any) -> Any:
    """A data set without random crops and flips; the set itself if it has none, or cannot be read without them."""
    inner = base
    while isinstance(inner, Subset):
        inner = inner.dataset
    composed: Any = getattr(inner, "__dict__", {}).get("transform")
    steps = getattr(composed, "transforms", None)
    if not _is_of_torchvision(composed) or not isinstance(steps, list | tuple) or not len(base):
        return base
    kept = [step for step in steps if type(step).__name__ not in _LEFT_OUT or not _is_of_torchvision(step)]
    if len(kept) == len(steps):
        return base
    plain = with_transform(base, type(composed)(kept))
    with isolated_globals(0):
        shapes = [getattr(source[0][0], "shape", None) for source in (base, plain)]
    return plain if shapes[0] is not None and shapes[0] == shapes[1] else base


def _is_of_torchvision(transform: Any) -> bool:
    return type(transform).__module__.startswith("torchvision.transforms")
