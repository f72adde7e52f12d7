"""Draws of the few forgotten samples that an attacker has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fed_unlearn.seeding import seeded_generator

SIZES = (1, 10, 50)
"""Samples of each forgotten class that the attacker has."""

DRAWS = 20
"""Draws of each size."""


def few_samples(labels: Tensor, seed: int) -> Iterator[list[Tensor]]:
    """Yield draws by size and, within a size, one after another.

    Parameters
    ----------
    labels : Tensor of shape (n,), int64
        Labels of the samples to draw from.
    seed : int
        Seed of the draws. Every audit and model that has the same seed gets the same draws.

    Yields
    ------
    list of Tensor of shape (size,), int64
        Positions of the samples of each class, in the order of the classes. A size is left out, and all larger ones,
        where a class has fewer samples.
    """
    of_class = [(labels == label).nonzero().flatten() for label in labels.unique().tolist()]
    fewest = min((len(positions) for positions in of_class), default=0)
    for size in SIZES:
        if size > fewest:
            return
        for draw in range(DRAWS):
            generator = seeded_generator(seed, "few samples", size, draw)
            yield [positions[torch.randperm(len(positions), generator=generator)[:size]] for positions in of_class]


def of_size(counts: Sequence[int], size: int) -> Sequence[int]:
    """The counts of all draws of one size; empty where it was left out."""
    start = SIZES.index(size) * DRAWS
    return counts[start : start + DRAWS]
