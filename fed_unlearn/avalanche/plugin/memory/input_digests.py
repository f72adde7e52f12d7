"""Digests of the inputs of samples, by which a stored input is recognised as one of them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks.utils import AvalancheDataset
from torch import Tensor

from fed_unlearn.avalanche.streams.forget_experience import released
from fed_unlearn.avalanche.streams.samples import has_sample_ids, located, sample_ids
from fed_unlearn.seeding import derive_seed, isolated_globals

_FEWEST = 8
"""Number of values that an input has at least, so that its digest tells a sample."""

_TRIED = 8
"""Number of samples that are read twice to see whether the training transformations are random."""


class InputDigests:
    """Digests of inputs as strategies may have stored them.

    Each sample is read as the data set below Avalanche's views gives it, with the training transformations, and with
    the evaluation transformations. Digests are of the values in float32, float16 and uint8 (floats in [0, 1] times 255,
    and bytes divided by 255), or in int64 where inputs are whole numbers. Shapes are ignored. Inputs of fewer than 8
    values, or of equal values, have no digest, because they tell no sample from others. Global generators are left as
    they were.

    Attributes
    ----------
    shapes : set of tuple of int
        Shapes of inputs with the training transformations.
    sizes : set of int
        Numbers of values in an input.
    random : bool
        Whether the training transformations are random, so that a stored training input need not have a digest.
    """

    def __init__(self) -> None:
        self.shapes: set[tuple[int, ...]] = set()
        self.sizes: set[int] = set()
        self.random = False
        self._read: set[str] = set()
        self._named: dict[bytes, str] = {}

    def learn(self, datasets: Sequence[AvalancheDataset], ids: Collection[str], *, few: bool = False) -> None:
        """Read the samples with these ids that were not read before.

        Parameters
        ----------
        datasets : sequence of AvalancheDataset
            Data sets that have the samples, each with sample ids.
        ids : collection of str
            Ids of the samples. Ids that no data set has are ignored.
        few : bool
            Whether to read no more than a few samples, which tell the shapes of inputs, and none if shapes are known.
        """
        if few and self.sizes:
            return
        wanted = set(ids) - self._read
        for dataset in datasets:
            if not wanted or not has_sample_ids(dataset):
                continue
            rows = [(row, name) for row, name in enumerate(sample_ids(dataset)) if name in wanted]
            if rows and few:
                return self._add(released(dataset), rows[:_TRIED])
            if rows:
                self._add(released(dataset), rows)
                wanted.difference_update(name for _, name in rows)

    def found_in(self, values: Tensor) -> list[str | None] | None:
        """Return for each input in a tensor the id of the sample that it is of.

        Parameters
        ----------
        values : Tensor
            One input, or inputs along leading dimensions. Its last dimensions may be flattened.

        Returns
        -------
        list of (str or None), or None
            One entry for each input; None for the whole if no number of last dimensions has the size of an input.
        """
        found: list[str | None] | None = None
        for size in _fitting(tuple(values.shape), self.sizes):
            rows = _canonical(values.detach().cpu().reshape(-1, size))
            if rows is None:
                continue
            names = [self._named.get(_digest(row)) for row in rows]
            if found is None or sum(name is not None for name in names) > sum(name is not None for name in found):
                found = names
        return found

    def fits(self, values: Tensor) -> bool:
        """Return whether last dimensions of a tensor have the size of an input."""
        return bool(_fitting(tuple(values.shape), self.sizes))

    def count(self, values: Tensor) -> int | None:
        """Return how many training inputs a tensor has by its shape; None if it cannot be inputs."""
        for shape in self.shapes:
            if tuple(values.shape[-len(shape) :]) == shape and values.ndim in (len(shape), len(shape) + 1):
                return 1 if values.ndim == len(shape) else len(values)
        return None

    def _add(self, dataset: AvalancheDataset, rows: list[tuple[int, str]]) -> None:
        views = dataset.train(), dataset.eval()
        bases, numbers, positions = located(dataset)
        first = [row for row, _ in rows[:_TRIED]]
        draws: list[list[Tensor | None]] = []
        for seed in (0, 1):
            with isolated_globals(derive_seed("input digests", seed)):
                draws.append([_input_of(views[0], row) for row in first])
        self.random = self.random or not all(_same(one, other) for one, other in zip(*draws, strict=True))
        with isolated_globals(derive_seed("input digests", 2)):
            for row, name in rows:
                self._read.add(name)
                base = bases[numbers[row]], int(positions[row])
                values = [_input_of(source, place) for source, place in (*((view, row) for view in views), base)]
                if values[0] is not None:
                    self.shapes.add(tuple(values[0].shape))
                for value in values:
                    if value is not None and value.numel() >= _FEWEST:
                        self.sizes.add(value.numel())
                        self._named.update((_digest(form), name) for form in _forms(value))


def _input_of(source: Any, place: int) -> Tensor | None:
    """Return the input of a sample as a tensor; None if the source does not give one, as with images of PIL."""
    item = source[place]
    value = item[0] if isinstance(item, tuple | list) and len(item) else item
    if isinstance(value, np.ndarray) and value.dtype != object:
        value = torch.from_numpy(np.ascontiguousarray(value))
    return value.detach().cpu() if isinstance(value, Tensor) else None


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    return one is None or other is None or (one.shape == other.shape and torch.equal(one, other))


def _forms(value: Tensor) -> Iterator[np.ndarray[Any, Any]]:
    """Yield the values of an input in each form in which it may be stored."""
    flat = value.flatten()
    if bool((flat == flat[0]).all()):
        return
    if flat.dtype == torch.uint8:
        floats = [flat.float(), flat.float() / 255]
        yield flat.numpy()
    elif flat.is_floating_point():
        floats = [flat.float()]
        if float(flat.min()) >= 0 and float(flat.max()) <= 1:
            yield (floats[0] * 255).round().to(torch.uint8).numpy()
    elif not flat.is_complex():
        yield flat.long().numpy()
        return
    else:
        return
    for given in floats:
        yield (given + 0.0).numpy()  # turns -0.0 into 0.0
        yield (given + 0.0).half().numpy()


def _canonical(rows: Tensor) -> np.ndarray[Any, Any] | None:
    if rows.dtype == torch.uint8:
        return rows.numpy()
    if rows.dtype == torch.float16:
        return (rows + 0.0).numpy()
    if rows.is_floating_point():
        return (rows.float() + 0.0).numpy()
    return None if rows.is_complex() or rows.dtype == torch.bool else rows.long().numpy()


def _digest(row: np.ndarray[Any, Any]) -> bytes:
    return blake2b(row.dtype.char.encode() + row.tobytes(), digest_size=16).digest()


def _fitting(shape: tuple[int, ...], sizes: Collection[int]) -> list[int]:
    tails = {math.prod(shape[start:]) for start in range(len(shape))}
    return sorted(tails.intersection(sizes)) if math.prod(shape) else []
