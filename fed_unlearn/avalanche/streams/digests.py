"""Tells whether two training streams are the same, by ids, labels and a few inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from avalanche.benchmarks.utils import AvalancheDataset

from fed_unlearn.avalanche.streams.samples import labels_of, sample_ids
from fed_unlearn.avalanche.streams.transforms import without_augmentation
from fed_unlearn.seeding import derive_seed, isolated_globals


def stream_digest(datasets: Sequence[AvalancheDataset]) -> str:
    """Return a digest of the data sets of a stream's experiences.

    It covers all ids and labels. It also covers the inputs of the first, the middle and the last sample of each data
    set, as they are read for evaluation. Inputs that are no tensors, that cannot be read, or that are not the same when
    they are read twice are left out. Global generators are not changed.

    Parameters
    ----------
    datasets : sequence of AvalancheDataset
        The data sets in order. Their samples have ids and labels.

    Returns
    -------
    str
        A SHA-256 in hexadecimal digits.
    """
    hashed = hashlib.sha256()
    for dataset in datasets:
        ids, count = sample_ids(dataset), len(dataset)
        hashed.update(repr((ids, labels_of(dataset))).encode())
        for index in sorted({0, count // 2, count - 1}) if count else ():
            first, second = (_input(dataset, index, ids[index]) for _ in range(2))
            hashed.update(repr(first if first == second else None).encode())
    return hashed.hexdigest()


def _input(dataset: AvalancheDataset, index: int, sample_id: str) -> tuple[object, ...] | None:
    """Shape, type and values of an input as it is read for evaluation; None if that is not possible."""
    try:
        view = without_augmentation(dataset)
        with isolated_globals(derive_seed("read", sample_id)):
            value = view[index][0]
        found = torch.as_tensor(value).detach().cpu().contiguous()
        return tuple(found.shape), str(found.dtype), found.flatten().view(torch.uint8).numpy().tobytes()
    except Exception:  # the data set and its transforms are the user's, and may raise anything
        return None
