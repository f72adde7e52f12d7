"""Task labels for benchmarks that have none."""

from __future__ import annotations

from copy import copy
from typing import Any

from avalanche.benchmarks import CLScenario, EagerCLStream
from avalanche.benchmarks.utils import AvalancheDataset, ConstantSequence, TaskLabels
from avalanche.benchmarks.utils.classification_dataset import TaskAwareSupervisedClassificationDataset


def with_one_task(benchmark: CLScenario) -> CLScenario:
    """Return the benchmark with task label 0 on every sample that has no task label.

    Benchmarks made by ``class_incremental_benchmark``, ``new_instances_benchmark`` and ``benchmark_from_datasets`` have
    no task labels. LwF, buffers grouped by class, class accuracy and top-k accuracy need them.

    Parameters
    ----------
    benchmark : CLScenario
        The benchmark. It is not changed. It is returned as it is if no task label is missing. Pass the result to
        ``forget_benchmark``; the other order does not work.

    Examples
    --------
    >>> scenario = forget_benchmark(with_one_task(benchmark), requests)  # doctest: +SKIP
    """
    if all(has_task_labels(experience) for stream in benchmark.streams.values() for experience in stream):
        return benchmark
    streams = [EagerCLStream(name, list(map(_with_task_label, stream))) for name, stream in benchmark.streams.items()]
    scenario = CLScenario(streams)
    for stream in streams:
        stream.benchmark = scenario
    return scenario


def has_task_labels(experience: Any) -> bool:
    """Return whether the samples of an experience have task labels."""
    dataset: Any = experience.dataset
    return isinstance(dataset, AvalancheDataset) and "targets_task_labels" in dataset._data_attributes


def _with_task_label(experience: Any) -> Any:
    view = copy(experience)
    if has_task_labels(experience):
        return view
    dataset = experience.dataset
    labelled: Any = TaskAwareSupervisedClassificationDataset(
        [dataset], data_attributes=[TaskLabels(ConstantSequence(0, len(dataset)))]
    )
    view._dataset = labelled.with_transforms(dataset._flat_data._transform_groups.current_group)
    view.task_label, view.task_labels = 0, [0]
    return view
