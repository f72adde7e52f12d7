"""Samples of a data set whose inputs are in memory too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.data import Dataset

from fed_unlearn.data.lazy import LazySet
from fed_unlearn.data.sample_set import Indices, SampleSet
from fed_unlearn.data.tensors import TensorSet

_BATCH = 64
_READ_TWICE = 512


class HeldSet(SampleSet):
    """Samples that are read from memory, and that know where in their data set they come from.

    Parameters
    ----------
    held : TensorSet
        The inputs in memory.
    source : LazySet
        The same samples in the same order.
    """

    def __init__(self, held: TensorSet, source: LazySet) -> None:
        self._held, self._source = held, source
        self.labels, self.ids, self.domain = held.labels, held.ids, held.domain

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self._held.input_shape

    def batch(self, indices: Indices = slice(None)) -> tuple[Tensor, Tensor]:
        """Inputs (n, ...) and labels (n,) at some positions."""
        return self._held.batch(indices)

    def subset(self, indices: Tensor) -> Self:
        """The samples at ``indices`` (int64), in that order, with their ids."""
        return self._like(self._held.subset(indices), self._source.subset(indices))

    def relabelled(self, labels: Tensor) -> Self:
        """The same inputs and ids under other labels."""
        return self._like(self._held.relabelled(labels), self._source.relabelled(labels))

    def to(self, device: torch.device) -> Self:
        """The same samples, with batches and labels on a device."""
        return self._like(self._held.to(device), self._source.to(device))

    def located(self) -> list[tuple[Dataset[Any], int]]:
        """The data set, and each sample's position in it."""
        return self._source.located()

    def merged_with(self, others: Sequence[SampleSet], ids: Sequence[str] | None) -> SampleSet | None:
        """One set, if all are of the same data set; see :meth:`SampleSet.merged_with`."""
        parts = [other for other in others if isinstance(other, HeldSet)]
        if len(parts) < len(others):
            return None
        held = self._held.merged_with([part._held for part in parts], ids)
        source = self._source.merged_with([part._source for part in parts], ids)
        if not isinstance(held, TensorSet) or not isinstance(source, LazySet):
            return None
        return self._like(held, source)

    def _like(self, held: TensorSet, source: LazySet) -> Self:
        return type(self)(held, source)


def held_in_memory(samples: LazySet, most_bytes: int) -> tuple[SampleSet, int]:
    """Samples with their inputs in memory, where they fit and are the same each time they are read.

    Parameters
    ----------
    samples : LazySet
    most_bytes : int
        Of all inputs.

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
    return HeldSet(TensorSet(inputs, samples.labels, samples.ids, domain=samples.domain), samples), size


def is_always_the_same(samples: SampleSet) -> bool:
    """Whether up to 512 samples, spread over all, are read twice alike: rare augmentation would show among them."""
    plan = spread(len(samples), _READ_TWICE).split(_BATCH)
    pairs = zip(samples.batches(plan), samples.batches(plan), strict=True)
    return all(torch.equal(first, second) for (first, _), (second, _) in pairs)


def spread(size: int, count: int) -> Tensor:
    """At most ``count`` positions of ``size`` samples, int64, sorted and spread over all."""
    places = sorted({index * size // count for index in range(count)}) if size > count else range(size)
    return torch.tensor(list(places), dtype=torch.int64)
