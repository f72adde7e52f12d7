"""One experience of the forget stream: the samples that one request asks to forget."""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Iterable
from typing import Any

from avalanche.benchmarks.scenarios.dataset_scenario import DatasetExperience
from avalanche.benchmarks.utils import AvalancheDataset

from fed_unlearn.avalanche.streams.origin import CopiedWhole
from fed_unlearn.avalanche.streams.samples import (
    attribute_values,
    has_task_labels,
    labels_of,
    sample_ids,
    task_labels_of,
)
from fed_unlearn.errors import InvalidRequestError
from fed_unlearn.requests import ClassScope, ClientScope, ForgetRequest


class ForgetExperience(CopiedWhole, DatasetExperience):
    """An experience of the forget stream. It holds D_f, the samples that one request asks to forget.

    Attributes
    ----------
    request : ForgetRequest
        The request, which has an id.
    asked : ForgetRequest
        The request in the labels of the model that serves it. The plug-in sets it; it is ``request`` before.
    after : int
        Number of training experiences that come before the request, at least 1.
    sample_ids : tuple of str
        Ids of D_f: the samples that the request asks for and that have arrived, without those of earlier requests.
    dataset : AvalancheDataset
        The samples of D_f in the order of ``sample_ids``. A strategy without an UnlearningPlugin cannot train on it.
    classes_in_this_experience : list or set of int
        The classes of D_f.
    benchmark : CLScenario
        The ``benchmark`` of the training experience before the request; if that has none, the benchmark of the forget
        stream.
    task_labels : list of int
        Task labels of D_f, where training experiences have them; ``task_label`` is the only one of them.
    """

    request: ForgetRequest
    asked: ForgetRequest
    after: int
    sample_ids: tuple[str, ...]

    def __init__(
        self, request: ForgetRequest, after: int, dataset: AvalancheDataset, members: frozenset[str] = frozenset()
    ) -> None:
        guarded = copy.copy(dataset)
        guarded.train = functools.partial(_refuse_training, request.id)
        super().__init__(dataset=guarded)
        self.request = self.asked = request
        self.after = after
        self.sample_ids = sample_ids(dataset)
        self._named = members if isinstance(request.scope, ClientScope) else frozenset(self.sample_ids)
        self._benchmark: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the benchmark of the training experiences. Not every benchmark can be pickled."""
        return {**vars(self), "_benchmark": None}

    @property
    def benchmark(self) -> Any:
        """The benchmark that training experiences name, or that of the forget stream."""
        return self.origin_stream.benchmark if self._benchmark is None else self._benchmark

    def names(self, labels: Iterable[int], ids: Iterable[str], tasks: Iterable[int] = ()) -> list[bool]:
        """Return for each training sample whether the request asks for it. Samples may be of later experiences.

        Parameters
        ----------
        labels : iterable of int
            Labels of the samples.
        ids : iterable of str
            Ids of the same samples.
        tasks : iterable of int
            Task labels of the same samples. Without them a request for a class of one task names none of them.

        Returns
        -------
        list of bool
            Whether the request asks for a sample, one entry for each sample.
        """
        if isinstance(self.request.scope, ClassScope):
            scope = self.request.scope
            pairs = itertools.zip_longest(tasks, labels)
            return [int(label) in scope.classes or (task, int(label)) in scope.pairs for task, label in pairs]
        return [name in self._named for name in ids]

    def names_in(self, dataset: AvalancheDataset) -> list[bool]:
        """Return for each sample of a data set with sample ids whether the request asks for it."""
        tasks = task_labels_of(dataset) if has_task_labels(dataset) else []
        return self.names(labels_of(dataset), sample_ids(dataset), tasks)

    def describe_like(self, trained: Any) -> None:
        """Set the attributes about benchmark, classes and tasks that the benchmark's training experiences have.

        Parameters
        ----------
        trained : CLExperience
            The training experience before the request.
        """
        self._benchmark = getattr(trained, "benchmark", None)  # confusion matrices take its order of classes
        given = getattr(trained, "classes_in_this_experience", None)
        kind = list if isinstance(given, list) else set
        self.classes_in_this_experience = kind(sorted(set(labels_of(self.dataset))))
        if getattr(trained, "classes_seen_so_far", None) is not None:
            self.previous_classes = kind(sorted(trained.classes_seen_so_far))
            self.classes_seen_so_far = kind(sorted(trained.classes_seen_so_far))
            self.future_classes = kind(sorted(trained.future_classes))
        if hasattr(trained, "task_labels"):
            self.task_labels = sorted(set(attribute_values(self.dataset, "targets_task_labels")))
            if len(self.task_labels) == 1:
                self.task_label = self.task_labels[0]


def released(dataset: AvalancheDataset) -> AvalancheDataset:
    """Return a copy of a forget experience's data set that strategies may train on.

    Only for callers that prevent the training by other means. The given data set is not changed.
    """
    free = copy.copy(dataset)
    vars(free).pop("train", None)
    return free


def _refuse_training(request_id: str) -> AvalancheDataset:
    raise InvalidRequestError(
        f"request {request_id}: a strategy without an UnlearningPlugin was about to train on what is to be forgotten;"
        " give it plugins=[UnlearningPlugin()]"
    )
