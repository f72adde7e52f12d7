"""A DataLoader that reads given lists of positions, without a draw from the global generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from fed_unlearn.seeding import derive_seed


def planned_loader(
    dataset: Dataset[Any],
    plan: Sequence[list[int]],
    *,
    collate: Callable[[list[Any]], Any],
    workers: int = 0,
    worker_init: Callable[[int], None] | None = None,
) -> DataLoader[Any]:
    """A loader of the batches that a plan names.

    Parameters
    ----------
    dataset : Dataset
        The samples, as a map-style data set.
    plan : sequence of list of int
        The positions of each batch.
    collate : callable
        Makes a batch of a list of items.
    workers : int, default 0
        Number of processes that read ahead. A single batch is read without any: starting one takes longer.
    worker_init : callable, optional
        Called in each of these processes with its number.

    Notes
    -----
    The workers' seeds depend on the plan, so that augmentation differs between two orders of the same samples.
    """
    seed = derive_seed("read", len(plan), *plan[0]) if plan else 0
    return DataLoader(
        dataset,
        batch_sampler=plan,
        num_workers=workers if len(plan) > 1 else 0,
        collate_fn=collate,
        worker_init_fn=worker_init,
        # Without a generator, a loader draws its base seed from the global one.
        generator=torch.Generator().manual_seed(seed),
    )
