"""The one interface through which all code reads labelled samples, in memory or not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.data import Dataset

from fed_unlearn.data.domain import InputDomain
from fed_unlearn.errors import InvalidDataError

Indices = Tensor | slice
"""Positions of samples: int64 of shape (n,), or a slice."""


class SampleSet(Dataset[tuple[Tensor, int]], ABC):
    """Labelled samples with stable ids, read by batch: a map-style dataset of ``(input, label)``.

    Labels and ids are in memory; inputs may be read only when a batch asks for them.

    Attributes
    ----------
    labels : Tensor of shape (n,), int64
        Label of each sample, on the device on which batches are returned.
    ids : tuple of str
        Stable id of each sample.
    domain : InputDomain
        What the values of the inputs are.
    """

    labels: Tensor
    ids: tuple[str, ...]
    domain: InputDomain

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""

    @abstractmethod
    def batch(self, indices: Indices = slice(None)) -> tuple[Tensor, Tensor]:
        """Inputs (n, ...), as float32 or int64, and labels (n,) at some positions."""

    @abstractmethod
    def subset(self, indices: Tensor) -> Self:
        """The samples at ``indices`` (int64), in that order, with their ids."""

    @abstractmethod
    def relabelled(self, labels: Tensor) -> Self:
        """The same inputs and ids under other labels, int64 of shape (n,)."""

    @abstractmethod
    def to(self, device: torch.device) -> Self:
        """The same samples, with batches and labels on a device."""

    def batches(self, positions: Iterable[Indices]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the :meth:`batch` of each set of positions. The next ones may be read ahead."""
        return (self.batch(indices) for indices in positions)

    def evaluated(self) -> SampleSet:
        """The same samples as audits, searches and guards read them: without random augmentation.

        The set itself, unless whoever made it said how its samples are read without.
        """
        return self

    def located(self) -> list[tuple[Dataset[Any], int]]:
        """Where each sample is read from: a data set, and the position in it. The set itself if it holds its inputs."""
        return [(self, position) for position in range(len(self))]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        inputs, labels = self.batch(torch.tensor([index]))
        return inputs[0], int(labels[0])

    def only(self, ids: Collection[str]) -> Self:
        """The samples whose id is among ``ids``, in this set's order."""
        wanted = set(ids)
        return self._where([sample_id in wanted for sample_id in self.ids])

    def without(self, ids: Collection[str]) -> Self:
        """The samples whose id is not among ``ids``, in this set's order."""
        unwanted = set(ids)
        if not unwanted:
            return self
        return self._where([sample_id not in unwanted for sample_id in self.ids])

    def of_classes(self, classes: Collection[int]) -> Self:
        """The samples whose label is among ``classes``, in this set's order."""
        wanted = torch.tensor(sorted(classes), dtype=torch.int64, device=self.labels.device)
        return self._where(torch.isin(self.labels, wanted).tolist())

    def merged_with(self, others: Sequence[SampleSet], ids: Sequence[str] | None) -> SampleSet | None:
        """This set's samples and then those of the others, in one set of this kind; None where it cannot hold them.

        Parameters
        ----------
        others : sequence of SampleSet
        ids : sequence of str or None
            Ids of all samples. If None, they are numbered.
        """
        return None

    def _where(self, mask: list[bool]) -> Self:
        return self.subset(torch.tensor(mask, dtype=torch.bool).nonzero().flatten())


def checked_ids(count: int, labels: Tensor, ids: Sequence[str] | None, named: str = "samples") -> tuple[str, ...]:
    """The ids of samples, numbered if none are given.

    Parameters
    ----------
    count : int
        Number of inputs.
    labels : Tensor
        Labels of the samples.
    ids : sequence of str or None
    named : str
        What the samples are, for the message.

    Raises
    ------
    InvalidDataError
        If labels are not int64 of shape (count,), or there is not one id of its own for each sample.
    """
    if labels.shape != (count,) or labels.dtype != torch.int64:
        raise InvalidDataError(
            f"labels: a tensor of shape {tuple(labels.shape)} and {labels.dtype} was given; expected"
            f" ({count},) of int64"
        )
    if ids is None:
        return tuple(str(index) for index in range(count))
    if len(ids) != count or len(set(ids)) != len(ids):
        raise InvalidDataError(
            f"ids: {len(ids)} ids, {len(set(ids))} of them different, were given for {count} {named};"
            f" expected one unique id for each {named.removesuffix('s')}"
        )
    return tuple(ids)
