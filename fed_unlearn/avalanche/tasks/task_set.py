"""Samples of several tasks as one set: inputs carry their task, labels are joint labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.data import Dataset

from fed_unlearn.avalanche.tasks.task_inputs import domain_with_places, with_places
from fed_unlearn.data.joined import concatenate
from fed_unlearn.data.sample_set import Indices, SampleSet, checked_ids


class TaskSet(SampleSet):
    """Samples whose inputs have one more channel, which holds the task.

    Parameters
    ----------
    samples : SampleSet
        The samples as a model without the channel reads them. Their labels are not used.
    places : Tensor of shape (n,), int64
        Place of each sample's task among all tasks.
    task_count : int
        Number of tasks.
    labels : Tensor of shape (n,), int64
        Joint labels of the samples.
    """

    def __init__(self, samples: SampleSet, places: Tensor, task_count: int, labels: Tensor) -> None:
        self._samples, self._places, self._task_count = samples, places, task_count
        self.labels, self.ids = labels, samples.ids
        checked_ids(len(samples), labels, samples.ids)
        self.domain = domain_with_places(samples.domain, samples.input_shape[0])

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, with the channel of the task."""
        channels, *rest = self._samples.input_shape
        return (channels + 1, *rest)

    def batch(self, indices: Indices = slice(None)) -> tuple[Tensor, Tensor]:
        """Inputs with their task, and joint labels, at some positions."""
        return self._with_task(self._samples.batch(indices)[0], indices), self.labels[indices]

    def batches(self, positions: Iterable[Indices]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the :meth:`batch` of each set of positions. The next ones may be read ahead."""
        plan = list(positions)
        for indices, (inputs, _) in zip(plan, self._samples.batches(plan), strict=True):
            yield self._with_task(inputs, indices), self.labels[indices]

    def subset(self, indices: Tensor) -> Self:
        """The samples at ``indices`` (int64), in that order, with their ids."""
        chosen = indices.to(self.labels.device)
        return self._like(self._samples.subset(indices), self._places[chosen], self.labels[chosen])

    def relabelled(self, labels: Tensor) -> Self:
        """The same inputs and ids under other joint labels."""
        return self._like(self._samples, self._places, labels)

    def to(self, device: torch.device) -> Self:
        """The same samples, with batches and labels on a device."""
        return self._like(self._samples.to(device), self._places.to(device), self.labels.to(device))

    def evaluated(self) -> Self:
        """The same samples, read without random augmentation. The set itself if they are read so already."""
        read = self._samples.evaluated()
        return self if read is self._samples else self._like(read, self._places, self.labels)

    def located(self) -> list[tuple[Dataset[Any], int]]:
        """Where each sample is read from: this set, since the data below does not hold the task."""
        return super().located()

    def merged_with(self, others: Sequence[SampleSet], ids: Sequence[str] | None) -> SampleSet | None:
        """One set of all samples, if all are of tasks of the same benchmark."""
        parts = [self, *(other for other in others if isinstance(other, type(self)))]
        if len(parts) <= len(others) or len({part._task_count for part in parts}) > 1:
            return None
        samples = concatenate(*(part._samples for part in parts))
        places = torch.cat([part._places for part in parts])
        return self._like(samples, places, torch.cat([part.labels for part in parts]))

    def _with_task(self, inputs: Tensor, indices: Indices) -> Tensor:
        return with_places(inputs, self._places[indices], self._task_count)

    def _like(self, samples: SampleSet, places: Tensor, labels: Tensor) -> Self:
        return type(self)(samples, places, self._task_count, labels)
