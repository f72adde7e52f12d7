"""Reads samples for models with task labels: with their task, under joint labels."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.models.utils import is_multi_task_module
from torch import nn

from fed_unlearn.avalanche.streams.reading import MOST_BYTES, SampleReader
from fed_unlearn.avalanche.streams.samples import labels_of, task_labels_of
from fed_unlearn.avalanche.tasks.joint_labels import JointLabels
from fed_unlearn.avalanche.tasks.task_aware_model import TaskAwareModel
from fed_unlearn.avalanche.tasks.task_set import TaskSet
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidDataError


@dataclass(frozen=True)
class TaskReader(SampleReader):
    """How samples are read for a model with task labels, and how it is called on them.

    Attributes
    ----------
    domain : InputDomain, optional
        What the inputs are, as for :class:`~fed_unlearn.avalanche.streams.reading.SampleReader`.
    joint : JointLabels
        The label space of all tasks.
    """

    joint: JointLabels = field(kw_only=True)

    def samples(self, dataset: AvalancheDataset | SampleSet, *, most_bytes: int = MOST_BYTES) -> SampleSet:
        """Return the samples of a data set with their tasks, under joint labels. A TaskSet is returned as it is.

        Raises
        ------
        InvalidDataError
            If the samples have no task labels, or are of a class and task that the benchmark does not have.
        """
        if isinstance(dataset, TaskSet):
            return dataset
        if isinstance(dataset, SampleSet):
            raise InvalidDataError(
                f"a {type(dataset).__name__} was given, whose samples have no task labels, and the model reads them;"
                " give an AvalancheDataset with task labels"
            )
        read = super().samples(dataset, most_bytes=most_bytes)
        tasks = task_labels_of(dataset)
        place = {task: number for number, task in enumerate(self.joint.tasks)}
        labels = self.joint.joint(tasks, read.labels.tolist())
        places = torch.tensor([place[task] for task in tasks], dtype=torch.int64)
        return TaskSet(read, places, len(place), labels)

    def labels(self, dataset: AvalancheDataset) -> list[int]:
        """Return the joint labels of all samples in order."""
        found: list[int] = self.joint.joint(task_labels_of(dataset), labels_of(dataset)).tolist()
        return found

    def peers(self, labels: Collection[int]) -> tuple[int, ...]:
        """Return the joint labels of the tasks that the given labels are of."""
        tasks = {self.joint.pairs[label][0] for label in labels}
        return tuple(label for label, pair in enumerate(self.joint.pairs) if pair[0] in tasks)

    def model(self, module: nn.Module) -> nn.Module:
        """Return the model as one that reads these samples. It shares all parameters."""
        known = getattr(module, "known_train_tasks_labels", None)
        return TaskAwareModel(module, self.joint, {int(task) for task in known} if known else self.joint.tasks)


def reader_for(model: nn.Module, experiences: Iterable[Any], before: SampleReader) -> SampleReader:
    """Return the reader that suits a model.

    Parameters
    ----------
    model : nn.Module
        The strategy's model.
    experiences : iterable of DatasetExperience
        All experiences whose samples may be read: those of all streams of the benchmark.
    before : SampleReader
        The reader so far. Its domain is kept, and so are its joint labels.

    Returns
    -------
    SampleReader
        A :class:`TaskReader` if the model reads task labels. Otherwise ``before``.
    """
    if not is_multi_task_module(model):
        return before
    datasets = [item.dataset for item in experiences]
    joint = before.joint.extended(datasets) if isinstance(before, TaskReader) else JointLabels.of(datasets)
    return TaskReader(before.domain, joint=joint)


def own_module(model: nn.Module) -> nn.Module:
    """Return the module that a reader's model calls, which has the parameters. The model itself if it calls none."""
    return model.model if isinstance(model, TaskAwareModel) else model
