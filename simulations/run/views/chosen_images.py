"""Which test images are looked at for a request: the same ones for every model, drawn by a seed of the request."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from fed_unlearn.data.images import ImageSet
from fed_unlearn.seeding import seeded_generator

MOST_COUNTED = 1000
"""Maximum number of images of the forgotten classes that destinations are counted of."""

SHOWN_FORGOTTEN, SHOWN_OTHERS = 30, 12
"""Maximum number of images of each forgotten class, and of each other class, in the projection."""

MOST_OTHERS = 600
"""Maximum number of images of all other classes together. Of many classes fewer images each are shown."""


@dataclass(frozen=True)
class ChosenImages:
    """The images of one request.

    Attributes
    ----------
    images : ImageSet
        Every image that is looked at, once.
    counted : Tensor of shape (n,), int64
        Places in ``images`` of those whose destinations are counted.
    shown : Tensor of shape (m,), int64
        Places in ``images`` of the points of the projection, by class.
    """

    images: ImageSet
    counted: Tensor
    shown: Tensor

    @property
    def shown_classes(self) -> tuple[int, ...]:
        """The true class of each point."""
        return tuple(self.images.labels[self.shown].tolist())


def choose(
    test: ImageSet, forgotten: Collection[int], others: Collection[int], *, seed: int, request_id: str
) -> ChosenImages:
    """Draw the images of a request.

    Parameters
    ----------
    test : ImageSet
        The test images. They are on the CPU.
    forgotten, others : collection of int
        The classes that the request names, and those that are shown beside them.
    seed : int
        Seed of the scenario.
    request_id : str
        Which images are drawn depends on the seed, this id and the class alone.

    Returns
    -------
    ChosenImages
        Without any image of a class that has no test images.
    """

    def drawn(positions: Tensor, most: int, purpose: str, label: int) -> Tensor:
        if len(positions) <= most:
            return positions
        order = torch.randperm(len(positions), generator=seeded_generator(seed, "views", request_id, purpose, label))
        return positions[order[:most]].sort().values

    def of_class(label: int) -> Tensor:
        return torch.nonzero(test.labels == label).flatten()

    counted = torch.cat([torch.empty(0, dtype=torch.int64), *map(of_class, sorted(forgotten))]).sort().values
    counted = drawn(counted, MOST_COUNTED, "counted", 0)
    beside = drawn(torch.tensor(sorted(others), dtype=torch.int64), MOST_OTHERS, "classes", 0).tolist()
    each = min(SHOWN_OTHERS, MOST_OTHERS // max(1, len(beside)))
    limits = {**dict.fromkeys(beside, each), **dict.fromkeys(sorted(forgotten), SHOWN_FORGOTTEN)}
    parts = [drawn(of_class(label), limits[label], "shown", label) for label in sorted(limits)]
    shown = torch.cat([torch.empty(0, dtype=torch.int64), *parts])
    positions = torch.cat([counted, shown]).unique()
    return ChosenImages(
        test.subset(positions), torch.searchsorted(positions, counted), torch.searchsorted(positions, shown)
    )
