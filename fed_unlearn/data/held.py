"""Samples of a data set whose inputs are in memory too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.data import Dataset

from fed_unlearn.data.lazy import LazySet
from fed_unlearn.data.sample_set import Indices, SampleSet

_BATCH = 64
_READ_TWICE = 512


class HeldSet(SampleSet):
    """Samples that are read from memory, and that know where in their data set they come from.

    Subsets and other labels share one tensor of inputs.

    Parameters
    ----------
    inputs : Tensor of shape (m, ...), float32 or int64
        The inputs in memory, as the model reads them.
    source : LazySet
        The samples of this set as they are read from their data set.
    places : Tensor of shape (n,), int64
        Index of each sample's input in ``inputs``.
    """

    def __init__(self, inputs: Tensor, source: LazySet, places: Tensor) -> None:
        self._inputs, self._source, self._places = inputs, source, places
        self.labels, self.ids, self.domain = source.labels, source.ids, source.domain

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self._inputs.shape[1:])

    def batch(self, indices: Indices = slice(None)) -> tuple[Tensor, Tensor]:
        """Inputs (n, ...) and labels (n,) at some positions."""
        chosen = indices if isinstance(indices, slice) else indices.to(self._places.device)
        return self._inputs[self._places[chosen]], self.labels[chosen]

    def subset(self, indices: Tensor) -> Self:
        """The samples at ``indices`` (int64), in that order, with their ids."""
        return self._like(self._source.subset(indices), self._places[indices.to(self._places.device)])

    def relabelled(self, labels: Tensor) -> Self:
        """The same inputs and ids under other labels."""
        return self._like(self._source.relabelled(labels), self._places)

    def to(self, device: torch.device) -> Self:
        """The same samples, with batches and labels on a device. The inputs of these samples alone are copied."""
        if self._inputs.device == device:
            return self._like(self._source.to(device), self._places)
        places = torch.arange(len(self), device=device)
        return type(self)(self._inputs[self._places].to(device), self._source.to(device), places)

    def located(self) -> list[tuple[Dataset[Any], int]]:
        """The data set, and each sample's position in it."""
        return self._source.located()

    def merged_with(self, others: Sequence[SampleSet], ids: Sequence[str] | None) -> SampleSet | None:
        """One set, if all are of the same data set; see :meth:`SampleSet.merged_with`."""
        parts = [self, *(other for other in others if isinstance(other, HeldSet))]
        if len(parts) <= len(others):
            return None
        source = self._source.merged_with([part._source for part in parts[1:]], ids)
        if not isinstance(source, LazySet):
            return None
        if all(part._inputs is self._inputs for part in parts):
            return self._like(source, torch.cat([part._places for part in parts]))
        inputs = torch.cat([part._inputs[part._places] for part in parts])
        return type(self)(inputs, source, torch.arange(len(inputs), device=inputs.device))

    def _like(self, source: LazySet, places: Tensor) -> Self:
        return type(self)(self._inputs, source, places)


def held_in_memory(samples: LazySet, most_bytes: int) -> tuple[SampleSet, int]:
    """Samples with their inputs in memory, where they fit and are the same each time they are read.

    Parameters
    ----------
    samples : LazySet
    most_bytes : int
        Maximum size of all inputs in memory, in bytes.

    Returns
    -------
    tuple of SampleSet and int
        The samples, and the bytes that they take in memory. The given ones and 0 where their inputs stay outside.
    """
    if len(samples) == 0:
        return samples, 0
    (first, _) = samples.batch(torch.tensor([0]))
    size = len(samples) * first.numel() * first.element_size()
    if size > most_bytes or not is_always_the_same(samples):
        return samples, 0
    inputs = torch.empty(len(samples), *first.shape[1:], dtype=first.dtype)
    plan = torch.arange(len(samples)).split(_BATCH)
    for indices, (batch, _) in zip(plan, samples.batches(plan), strict=True):
        inputs[indices] = batch
    samples.domain.check(inputs)
    return HeldSet(inputs, samples, torch.arange(len(samples))), size


def is_always_the_same(samples: SampleSet) -> bool:
    """Whether up to 512 samples, spread over all, are read twice alike: rare augmentation would show among them."""
    plan = spread(len(samples), _READ_TWICE).split(_BATCH)
    pairs = zip(samples.batches(plan), samples.batches(plan), strict=True)
    return all(torch.equal(first, second) for (first, _), (second, _) in pairs)


def spread(size: int, count: int) -> Tensor:
    """At most ``count`` positions of ``size`` samples, int64, sorted and spread over all."""
    places = sorted({index * size // count for index in range(count)}) if size > count else range(size)
    return torch.tensor(list(places), dtype=torch.int64)
